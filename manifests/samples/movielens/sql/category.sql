-- A user with profile and history in one genre, and what was rated next in it. Training has one row for each genre of
-- a title; a held-out title is asked for in one of its genres, chosen by a hash, so that every user counts once.
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
),
asked AS (
  SELECT
    sequence,
    position,
    item_id,
    label,
    event_time,
    split,
    age,
    gender,
    occupation,
    -- What precedes the event, of all genres; the first event's empty list is null everywhere.
    CASE WHEN position > 1 THEN
      array_agg(item_id) OVER (
        PARTITION BY sequence ORDER BY position ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      )
    END AS history
  FROM rated
),
parts AS (
  SELECT m.item_id, n.i, split_part(m.genres, ' ', n.i) AS genre
  FROM movies m
  CROSS JOIN (VALUES (1), (2), (3), (4), (5), (6), (7), (8)) AS n (i)
),
genres AS (
  SELECT
    item_id,
    genre,
    ROW_NUMBER() OVER (PARTITION BY item_id ORDER BY i) AS genre_number,
    COUNT(*) OVER (PARTITION BY item_id) AS genres
  FROM parts
  WHERE genre <> ''
)
SELECT
  a.sequence AS user_id,
  a.age,
  a.gender,
  a.occupation,
  a.history,
  g.genre,
  CAST(a.event_time AS DOUBLE) AS time,
  a.item_id,
  a.label,
  CAST(1 AS DOUBLE) AS weight,
  a.event_time,
  a.split,
  -- What follows in a genre's sequence stays in the genre.
  concat(a.sequence, '/', g.genre) AS sequence
FROM genres g
JOIN asked a ON a.item_id = g.item_id
WHERE
  a.split = 'train'
  OR g.genre_number = 1 + (CAST(a.sequence AS BIGINT) * 7919 + CAST(a.item_id AS BIGINT) * 104729) % 1000003 % g.genres
ORDER BY a.sequence, g.genre, a.position
