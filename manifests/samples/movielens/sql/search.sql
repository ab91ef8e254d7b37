-- A query made from the title of each positive: the whole title, one of its words, or its beginning. Which one is a
-- hash of user and item, so that the same files give the same queries everywhere.
WITH titles AS (
  SELECT
    item_id,
    lower(title) AS title,
    translate(lower(title), ',.:;!?()"/', '          ') AS spaced
  FROM movies
),
parts AS (
  SELECT t.item_id, n.i, split_part(t.spaced, ' ', n.i) AS word
  FROM titles t
  CROSS JOIN (
    VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15), (16), (17), (18), (19),
      (20), (21), (22), (23), (24)
  ) AS n (i)
),
words AS (
  SELECT
    item_id,
    word,
    ROW_NUMBER() OVER (PARTITION BY item_id ORDER BY i) AS word_number,
    COUNT(*) OVER (PARTITION BY item_id) AS words
  FROM parts
  WHERE length(word) >= 4
),
hashed AS (
  SELECT
    sequence,
    position,
    item_id,
    label,
    event_time,
    split,
    (CAST(sequence AS BIGINT) * 7919 + CAST(item_id AS BIGINT) * 104729) % 1000003 % 3 AS kind,
    (CAST(sequence AS BIGINT) * 611953 + CAST(item_id AS BIGINT) * 15487) % 999983 AS choice
  FROM events
  WHERE label >= 0.5
),
titled AS (
  SELECT h.sequence, h.position, h.item_id, h.label, h.event_time, h.split, h.kind, h.choice, t.title
  FROM titles t
  JOIN hashed h ON h.item_id = t.item_id
)
SELECT
  CASE
    WHEN t.kind = 1 AND w.word IS NOT NULL THEN w.word
    WHEN t.kind = 2 THEN trim(substr(t.title, 1, CAST(4 + t.choice % 5 AS INTEGER)))
    ELSE t.title
  END AS query,
  t.item_id,
  t.label,
  CAST(1 AS DOUBLE) AS weight,
  t.event_time,
  t.split,
  t.sequence
FROM words w
RIGHT JOIN titled t ON t.item_id = w.item_id AND w.word_number = 1 + t.choice % w.words
ORDER BY t.sequence, t.position
