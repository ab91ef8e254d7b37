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
counted AS (
  SELECT
    user_id,
    item_id,
    rating,
    event_time,
    position,
    -- Positives from this event to the user's last one.
    SUM(CASE WHEN rating >= 4 THEN 1 ELSE 0 END) OVER (
      PARTITION BY user_id ORDER BY position DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS positives_left
  FROM ordered
)
SELECT
  user_id AS sequence,
  item_id,
  CAST(CASE WHEN rating >= 4 THEN 1 ELSE 0 END AS DOUBLE) AS label,
  event_time,
  CASE
    WHEN positives_left > 2 THEN 'train'
    WHEN positives_left = 2 AND rating >= 4 THEN 'validation'
    WHEN positives_left = 2 THEN 'train'
    WHEN positives_left = 1 AND rating >= 4 THEN 'test'
    ELSE 'none'
  END AS split,
  position
FROM counted
ORDER BY sequence, position
