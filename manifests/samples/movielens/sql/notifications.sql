-- A user with profile and history, and what was rated next. Ratings below 4 have label 0: they are no request, but
-- soft targets and the baselines on all ratings see them.
--
-- In all these files the short table of a join comes first: engines that keep the first one in memory keep no events.
WITH rated AS (
  SELECT
    e.sequence,
    e.position,
    e.item_id,
    e.label,
    e.event_time,
    e.split,
    p.age,
    p.gender,
    p.occupation
  FROM people p
  RIGHT JOIN events e ON e.sequence = p.user_id
)
SELECT
  sequence AS user_id,
  age,
  gender,
  occupation,
  -- What precedes the event and nothing else; the first event's empty list is null everywhere.
  CASE WHEN position > 1 THEN
    array_agg(item_id) OVER (
      PARTITION BY sequence ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
  END AS history,
  CAST(event_time AS DOUBLE) AS time,
  item_id,
  label,
  CAST(1 AS DOUBLE) AS weight,
  event_time,
  split,
  sequence
FROM rated
ORDER BY sequence, position
