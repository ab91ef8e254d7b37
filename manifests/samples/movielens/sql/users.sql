-- The profile snapshot as of now: what a server knows of a user who sends no more than an id.
WITH histories AS (
  SELECT
    sequence,
    array_agg(item_id) OVER (
      PARTITION BY sequence ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS history,
    LEAD(position) OVER (PARTITION BY sequence ORDER BY position) AS following
  FROM events
)
SELECT p.user_id, p.age, p.gender, p.occupation, h.history
FROM people p
LEFT JOIN histories h ON h.sequence = p.user_id AND h.following IS NULL
ORDER BY CAST(p.user_id AS BIGINT)
