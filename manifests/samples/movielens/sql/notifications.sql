-- A user with profile and history, and what was rated next. Ratings below 4 have label 0: they are no request, but
-- soft targets and the baselines on all ratings see them.
WITH asked AS (
  SELECT
    sequence,
    position,
    item_id,
    label,
    event_time,
    split,
    -- What precedes the event and nothing else; the first event's empty list is null everywhere.
    CASE WHEN position > 1 THEN
      array_agg(item_id) OVER (
        PARTITION BY sequence ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      )
    END AS history
  FROM events
)
SELECT
  a.sequence AS user_id,
  p.age,
  p.gender,
  p.occupation,
  a.history,
  CAST(a.event_time AS DOUBLE) AS time,
  a.item_id,
  a.label,
  CAST(1 AS DOUBLE) AS weight,
  a.event_time,
  a.split,
  a.sequence
FROM asked a
LEFT JOIN people p ON p.user_id = a.sequence
ORDER BY a.sequence, a.position
