-- One positive of a user as the source, the user's next positive as the target.
WITH positives AS (
  SELECT
    sequence,
    position,
    item_id,
    label,
    event_time,
    split,
    LAG(item_id) OVER (PARTITION BY sequence ORDER BY position) AS source_item
  FROM events
  WHERE label >= 0.5
)
SELECT
  source_item,
  item_id,
  label,
  CAST(1 AS DOUBLE) AS weight,
  event_time,
  split,
  sequence
FROM positives
WHERE source_item IS NOT NULL
ORDER BY sequence, position
