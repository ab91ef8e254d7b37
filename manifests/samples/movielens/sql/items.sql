-- The catalogue. Genres come as words in one string; the number table takes them apart in the same way everywhere.
WITH genre AS (
  SELECT m.item_id, split_part(m.genres, ' ', n.i) AS name
  FROM movies m
  CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8)) AS n (i)
),
genres AS (
  SELECT item_id, array_sort(array_agg(name)) AS genres
  FROM genre
  WHERE name <> ''
  GROUP BY item_id
)
SELECT
  m.item_id,
  m.title,
  g.genres,
  -- One title has no year but a word there.
  TRY_CAST(m.year AS DOUBLE) AS year
FROM movies m
LEFT JOIN genres g ON g.item_id = m.item_id
ORDER BY CAST(m.item_id AS BIGINT)
