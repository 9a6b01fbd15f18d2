-- Mean departure delay by wind speed and by the plane's age: flights (operations), weather (weather), planes (fleet).
-- An analyst joins on tail numbers that they never see: the keyed hash is the same in both tables.
SELECT
  CASE
    WHEN w.wind_speed < 5 THEN '1: calm, below 5 mph'
    WHEN w.wind_speed < 15 THEN '2: breeze, 5 to 15 mph'
    WHEN w.wind_speed < 25 THEN '3: wind, 15 to 25 mph'
    ELSE '4: strong, above 25 mph'
  END AS wind,
  CASE
    WHEN f.year - p.year < 5 THEN '1: under 5 years'
    WHEN f.year - p.year < 15 THEN '2: 5 to 15 years'
    ELSE '3: 15 years and more'
  END AS age,
  COUNT(*) AS flights,
  ROUND(AVG(f.dep_delay), 1) AS mean_delay
FROM operations.flights AS f
JOIN fleet.planes AS p ON p.tailnum = f.tailnum
JOIN weather.hourly AS w ON w.origin = f.origin AND w.time_hour = f.time_hour
WHERE f.dep_delay IS NOT NULL AND p.year IS NOT NULL
GROUP BY 1, 2
ORDER BY 1, 2
