-- Emergencies, since there is a table for them: the input of gate 3 went on, and off after a quarter of an hour.
INSERT INTO entries (key_id, sequence, counter, kind, received_ms, sealed) VALUES
    (x'5750000200000003', 4, 4, 3, 1795310400000, x'0100000004ff'),
    (x'5750000200000003', 5, 5, 3, 1795311300000, x'0100000005ff');
INSERT INTO emergencies (key_id, sequence, time_ms, clock, active, received_ms) VALUES
    (x'5750000200000003', 4, 1795310400000, 2, 1, 1795310402000),
    (x'5750000200000003', 5, 1795311300000, 2, 0, 1795311302000);
UPDATE watermarks SET acked = 5, last_counter = 5 WHERE key_id = x'5750000200000003';
