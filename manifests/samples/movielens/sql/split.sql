-- All ratings as events, split per user before any task is derived from them, so that no task can leak what another
-- one is tested on: the last positive is test, the positive before it is validation, and training has what lies
-- strictly before the validation event. The rest is in no split, but counts as history.
-- Equal times are common; the numeric item id decides then.
WITH ordered AS (
  SELECT
    user_id,
    item_id,
    rating,
    event_time,
    CAST(
      ROW_NUMBER() OVER (PARTITION BY user_id ORDER BY event_time, CAST(item_id AS BIGINT)) AS BIGINT
    ) AS position
  FROM ratings
),
positives AS (
  SELECT user_id, position, LEAD(position) OVER (PARTITION BY user_id ORDER BY position) AS following
  FROM ordered
  WHERE rating >= 4
),
held_out AS (
  SELECT
    user_id,
    MAX(position) AS test,
    MAX(CASE WHEN following IS NOT NULL THEN position END) AS validation
  FROM positives
  GROUP BY user_id
)
SELECT
  o.user_id AS sequence,
  o.item_id,
  CAST(CASE WHEN o.rating >= 4 THEN 1 ELSE 0 END AS DOUBLE) AS label,
  o.event_time,
  CASE
    WHEN o.position = h.test THEN 'test'
    WHEN o.position = h.validation THEN 'validation'
    WHEN o.position < h.validation THEN 'train'
    ELSE 'none'
  END AS split,
  o.position
FROM held_out h
RIGHT JOIN ordered o ON o.user_id = h.user_id
ORDER BY o.user_id, o.position
