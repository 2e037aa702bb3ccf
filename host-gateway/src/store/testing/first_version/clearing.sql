-- Money of a store as the first version left it. Fixed bytes: tokens' keys and sealed numbers are those of the test house's
-- keys; sealed entries are shortened, nothing opens them here. x'…' is written otherwise for PostgreSQL by the test.
INSERT INTO tariffs (effective_from, version, text) VALUES
    (20454, 'first-1', 'version = "first-1"
effective_from = "2026-01-01"
time_zone = "Asia/Shanghai"
service_day_start = "04:00"
currency = "CNY"
maximum_fare_fen = 900
single_fare_fen = 200
maximum_journey_minutes = 240
passback_seconds = 20

[same_station]
free_minutes = 2
cheapest_minutes = 30

[distance_fare]
base_fen = 200
base_to_m = 4_000
band = [
    { to_m = 12_000, every_m = 4_000, add_fen = 100 },
    { to_m = 24_000, every_m = 6_000, add_fen = 100 },
    { every_m = 8_000, add_fen = 100 },
]

[[station]]
code = "HB"
name = "Harbour Bell"

[[station]]
code = "LJ"
name = "Lantern Junction"

[[station]]
code = "AP"
name = "Swift Airport"

[[line]]
code = "1"
name = "Harbour Line"
stations = ["HB", "LJ", "AP"]
segments_m = [3750, 19850]
');
INSERT INTO journeys (service_day, token_key, first_key, first_sequence, part, second_key, second_sequence, from_station, entered_ms,
    to_station, left_ms, nominal_fen, charged_fen, status, superseded_by) VALUES
    (20777, x'21c16d54ddc7a8413bdabb873142741b', x'5750000100000001', 1, 1, x'5750000100000003', 1, 'HB', 1795133400000, 'LJ', 1795134480000, 200, 200, 'complete', NULL),
    (20778, x'244e6deab375d362a7f5b5bc55401551', x'5750000100000001', 3, 1, x'5750000100000002', 1, 'HB', 1795219800000, 'AP', 1795222200000, 600, 600, 'complete', NULL),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', x'5750000100000001', 4, 1, x'5750000100000003', 3, 'HB', 1795219920000, 'LJ', 1795221000000, 200, 200, 'complete', NULL),
    (20778, x'a65425954988ded823e8aaba03818aa1', x'5750000100000001', 5, 1, x'5750000100000002', 3, 'HB', 1795220100000, 'AP', 1795222500000, 600, 600, 'complete', NULL),
    (20778, x'4e233b61ab8bc873615e83e21e385f63', x'5750000100000001', 6, 1, NULL, NULL, 'HB', 1795220400000, NULL, NULL, 900, 900, 'incomplete', NULL),
    (20778, x'9312d4196ab6cfca60f3f0ed670b1272', x'5750000100000001', 7, 1, x'5750000100000003', 4, 'HB', 1795220460000, 'LJ', 1795221600000, 200, 200, 'complete', NULL),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', x'5750000100000001', 8, 1, x'5750000100000003', 5, 'HB', 1795220520000, 'LJ', 1795221660000, 200, 200, 'complete', NULL),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', x'5750000100000001', 10, 1, NULL, NULL, 'HB', 1795255200000, NULL, NULL, 900, 900, 'incomplete', 2),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', x'5750000100000001', 10, 2, x'5750000100000002', 4, 'HB', 1795255200000, 'AP', 1795257600000, 600, 600, 'complete', NULL),
    (20778, x'0a7aebc5f0aeaa8ea532958c6f0c526e', x'5750000100000001', 9, 1, x'5750000100000003', 6, 'HB', 1795220580000, 'LJ', 1795221720000, 200, 200, 'complete', NULL);
INSERT INTO adjustments (service_day, token_key, part, rank, kind, amount_fen) VALUES
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 2, 1, 'late', -300);
INSERT INTO charges (service_day, token_key, part, rank, amount_fen, state, attempts) VALUES
    (20777, x'21c16d54ddc7a8413bdabb873142741b', 1, 0, 200, 'open', 0),
    (20778, x'244e6deab375d362a7f5b5bc55401551', 1, 0, 600, 'deducted', 1),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', 1, 0, 200, 'deducted', 2),
    (20778, x'a65425954988ded823e8aaba03818aa1', 1, 0, 600, 'declined', 1),
    (20778, x'4e233b61ab8bc873615e83e21e385f63', 1, 0, 900, 'waived', 1),
    (20778, x'9312d4196ab6cfca60f3f0ed670b1272', 1, 0, 200, 'in_doubt', 1),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 1, 0, 1100, 'deducted', 1),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 2, 1, -300, 'deducted', 1),
    (20778, x'0a7aebc5f0aeaa8ea532958c6f0c526e', 1, 0, 200, 'declined', 1);
-- Of the first day the first of two tokens was priced.
INSERT INTO day_close (service_day, rank, state, cursor, forced) VALUES
    (20777, 0, 'pricing', x'21c16d54ddc7a8413bdabb873142741b', 0),
    (20778, 0, 'sealed', x'e0d8e3afb964a2189c5338d5701d6b24', 0),
    (20778, 1, 'sealed', x'e0d8e3afb964a2189c5338d5701d6b24', 0);
INSERT INTO batches (service_day, rank, number, charges, total_fen, previous_hash, hash) VALUES
    (20778, 0, 1, 7, 3800, x'0000000000000000000000000000000000000000000000000000000000000000', x'58c351c8a22c66aacffbfbc260178e48820535409b19a3f14cc726510ba711d7'),
    (20778, 1, 2, 1, -300, x'58c351c8a22c66aacffbfbc260178e48820535409b19a3f14cc726510ba711d7', x'f591d6902898645ad77e904317c2c5e58bdd0dbdd574b7baf85225cc56916c9f');
-- What is in doubt never came to the bank.
INSERT INTO attempts (service_day, token_key, part, attempt_no, account_id, amount_fen, state, reason) VALUES
    (20778, x'244e6deab375d362a7f5b5bc55401551', 1, 1, 'account-0001', 600, 'approved', NULL),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', 1, 1, 'account-0002', 200, 'declined', 'no_funds'),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', 1, 2, 'account-0002', 200, 'approved', NULL),
    (20778, x'a65425954988ded823e8aaba03818aa1', 1, 1, 'account-0003', 600, 'declined', 'no_funds'),
    (20778, x'4e233b61ab8bc873615e83e21e385f63', 1, 1, 'account-0004', 900, 'declined', 'no_funds'),
    (20778, x'9312d4196ab6cfca60f3f0ed670b1272', 1, 1, 'account-0005', 200, 'in_doubt', NULL),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 1, 1, 'account-0006', 1100, 'approved', NULL),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 2, 1, 'account-0006', -300, 'approved', NULL),
    (20778, x'0a7aebc5f0aeaa8ea532958c6f0c526e', 1, 1, '', 200, 'declined', 'unknown_account');
INSERT INTO debts (token_key, service_day, part, amount_fen, reason, state) VALUES
    (x'e0d8e3afb964a2189c5338d5701d6b24', 20778, 1, 200, 'no_funds', 'recovered'),
    (x'a65425954988ded823e8aaba03818aa1', 20778, 1, 600, 'no_funds', 'open'),
    (x'4e233b61ab8bc873615e83e21e385f63', 20778, 1, 900, 'no_funds', 'waived'),
    (x'0a7aebc5f0aeaa8ea532958c6f0c526e', 20778, 1, 200, 'unknown_account', 'open');
-- The last is the settlement of operator 1.
INSERT INTO ledger_transactions (service_day, shard, part, event, kind, at_ms) VALUES
    (20777, x'21c16d54ddc7a8413bdabb873142741b', 1, 0, 'charged', 1795204800000),
    (20778, x'244e6deab375d362a7f5b5bc55401551', 1, 0, 'charged', 1795291200000),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', 1, 0, 'charged', 1795291200000),
    (20778, x'a65425954988ded823e8aaba03818aa1', 1, 0, 'charged', 1795291200000),
    (20778, x'4e233b61ab8bc873615e83e21e385f63', 1, 0, 'charged', 1795291200000),
    (20778, x'9312d4196ab6cfca60f3f0ed670b1272', 1, 0, 'charged', 1795291200000),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 1, 0, 'charged', 1795291200000),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 2, 0, 'charged', 1795291200000),
    (20778, x'0a7aebc5f0aeaa8ea532958c6f0c526e', 1, 0, 'charged', 1795291200000),
    (20778, x'244e6deab375d362a7f5b5bc55401551', 1, 5, 'deducted', 1795291200000),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', 1, 9, 'deducted', 1795291200000),
    (20778, x'9312d4196ab6cfca60f3f0ed670b1272', 1, 4, 'in_doubt', 1795291200000),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 1, 5, 'deducted', 1795291200000),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 2, 5, 'deducted', 1795291200000),
    (20778, x'4e233b61ab8bc873615e83e21e385f63', 1, 1, 'waived', 1795291200000),
    (20778, x'6f70657261746f722e2e2e2e2e2e0001', 0, 0, 'settled', 1795291200000);
INSERT INTO ledger_postings (service_day, shard, part, event, line, account, amount_fen) VALUES
    (20777, x'21c16d54ddc7a8413bdabb873142741b', 1, 0, 0, 'owed', 200),
    (20777, x'21c16d54ddc7a8413bdabb873142741b', 1, 0, 1, 'fares', -200),
    (20778, x'244e6deab375d362a7f5b5bc55401551', 1, 0, 0, 'owed', 600),
    (20778, x'244e6deab375d362a7f5b5bc55401551', 1, 0, 1, 'fares', -600),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', 1, 0, 0, 'owed', 200),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', 1, 0, 1, 'fares', -200),
    (20778, x'a65425954988ded823e8aaba03818aa1', 1, 0, 0, 'owed', 600),
    (20778, x'a65425954988ded823e8aaba03818aa1', 1, 0, 1, 'fares', -600),
    (20778, x'4e233b61ab8bc873615e83e21e385f63', 1, 0, 0, 'owed', 900),
    (20778, x'4e233b61ab8bc873615e83e21e385f63', 1, 0, 1, 'fares', -900),
    (20778, x'9312d4196ab6cfca60f3f0ed670b1272', 1, 0, 0, 'owed', 200),
    (20778, x'9312d4196ab6cfca60f3f0ed670b1272', 1, 0, 1, 'fares', -200),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 1, 0, 0, 'owed', 1100),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 1, 0, 1, 'fares', -1100),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 2, 0, 0, 'owed', -300),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 2, 0, 1, 'fares', 300),
    (20778, x'0a7aebc5f0aeaa8ea532958c6f0c526e', 1, 0, 0, 'owed', 200),
    (20778, x'0a7aebc5f0aeaa8ea532958c6f0c526e', 1, 0, 1, 'fares', -200),
    (20778, x'244e6deab375d362a7f5b5bc55401551', 1, 5, 0, 'deducted', 600),
    (20778, x'244e6deab375d362a7f5b5bc55401551', 1, 5, 1, 'owed', -600),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', 1, 9, 0, 'deducted', 200),
    (20778, x'e0d8e3afb964a2189c5338d5701d6b24', 1, 9, 1, 'owed', -200),
    (20778, x'9312d4196ab6cfca60f3f0ed670b1272', 1, 4, 0, 'in_doubt', 200),
    (20778, x'9312d4196ab6cfca60f3f0ed670b1272', 1, 4, 1, 'owed', -200),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 1, 5, 0, 'deducted', 1100),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 1, 5, 1, 'owed', -1100),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 2, 5, 0, 'deducted', -300),
    (20778, x'21c16d54ddc7a8413bdabb873142741b', 2, 5, 1, 'owed', 300),
    (20778, x'4e233b61ab8bc873615e83e21e385f63', 1, 1, 0, 'waived', 900),
    (20778, x'4e233b61ab8bc873615e83e21e385f63', 1, 1, 1, 'owed', -900),
    (20778, x'6f70657261746f722e2e2e2e2e2e0001', 0, 0, 0, 'settlement', 1600),
    (20778, x'6f70657261746f722e2e2e2e2e2e0001', 0, 0, 1, 'settled', -1596),
    (20778, x'6f70657261746f722e2e2e2e2e2e0001', 0, 0, 2, 'fees', -4);
INSERT INTO settlements (operator, service_day, rank, deducted_fen, sponsored_fen, covered_fen, fees_fen, settled_fen) VALUES
    (1, 20778, 0, 1600, 0, 0, 4, 1596);
INSERT INTO breaks (id, kind, subject, service_day, detail, opened_ms, closed_ms) VALUES
    ('b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1', 'unregistered_token', '0a7aebc5f0aeaa8ea532958c6f0c526e', 20778, 'a charge of a token that belongs to no e-account', 1795291200000, NULL),
    ('b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2', 'bank_amount', '244e6deab375d362a7f5b5bc55401551-1-1', 20778, 'ours 600 fen, theirs 500 fen', 1795291200000, 1795294800000);
INSERT INTO bank_accounts (account_id, class, state, balance_fen, spent_on, day_spent_fen, spent_in, year_spent_fen) VALUES
    ('account-0001', 2, 'open', 99400, 2026326, 600, 2026, 600),
    ('account-0002', 2, 'open', 800, 2026326, 200, 2026, 200),
    ('account-0003', 2, 'open', 100, 0, 0, 0, 0),
    ('account-0004', 2, 'open', 500, 0, 0, 0, 0),
    ('account-0005', 2, 'open', 100000, 0, 0, 0, 0),
    ('account-0006', 2, 'open', 99200, 2026326, 800, 2026, 800),
    ('account-0008', 2, 'open', 100000, 0, 0, 0, 0);
INSERT INTO bank_postings (account_id, entry, line, side, amount_fen, at_ms) VALUES
    ('account-0001', x'6f70656e696e67', 0, 'account', 100000, 1795046400000),
    ('account-0001', x'6f70656e696e67', 1, 'bound', -100000, 1795046400000),
    ('account-0002', x'7365636f6e64', 0, 'account', 1000, 1795291200000),
    ('account-0002', x'7365636f6e64', 1, 'bound', -1000, 1795291200000),
    ('account-0003', x'6f70656e696e67', 0, 'account', 100, 1795046400000),
    ('account-0003', x'6f70656e696e67', 1, 'bound', -100, 1795046400000),
    ('account-0004', x'6f70656e696e67', 0, 'account', 500, 1795046400000),
    ('account-0004', x'6f70656e696e67', 1, 'bound', -500, 1795046400000),
    ('account-0005', x'6f70656e696e67', 0, 'account', 100000, 1795046400000),
    ('account-0005', x'6f70656e696e67', 1, 'bound', -100000, 1795046400000),
    ('account-0006', x'6f70656e696e67', 0, 'account', 100000, 1795046400000),
    ('account-0006', x'6f70656e696e67', 1, 'bound', -100000, 1795046400000),
    ('account-0008', x'6f70656e696e67', 0, 'account', 100000, 1795046400000),
    ('account-0008', x'6f70656e696e67', 1, 'bound', -100000, 1795046400000),
    ('account-0001', x'0000512a244e6deab375d362a7f5b5bc554015510000000100000001', 0, 'account', -600, 1795291200000),
    ('account-0001', x'0000512a244e6deab375d362a7f5b5bc554015510000000100000001', 1, 'transit', 600, 1795291200000),
    ('account-0002', x'0000512ae0d8e3afb964a2189c5338d5701d6b240000000100000002', 0, 'account', -200, 1795291200000),
    ('account-0002', x'0000512ae0d8e3afb964a2189c5338d5701d6b240000000100000002', 1, 'transit', 200, 1795291200000),
    ('account-0006', x'0000512a21c16d54ddc7a8413bdabb873142741b0000000100000001', 0, 'account', -1100, 1795291200000),
    ('account-0006', x'0000512a21c16d54ddc7a8413bdabb873142741b0000000100000001', 1, 'transit', 1100, 1795291200000),
    ('account-0006', x'0000512a21c16d54ddc7a8413bdabb873142741b0000000200000001', 0, 'account', 300, 1795291200000),
    ('account-0006', x'0000512a21c16d54ddc7a8413bdabb873142741b0000000200000001', 1, 'transit', -300, 1795291200000);
INSERT INTO bank_answers (account_id, entry, service_day, amount_fen, answer) VALUES
    ('account-0001', x'6f70656e696e67', 0, -100000, 'approved'),
    ('account-0002', x'7365636f6e64', 0, -1000, 'approved'),
    ('account-0003', x'6f70656e696e67', 0, -100, 'approved'),
    ('account-0004', x'6f70656e696e67', 0, -500, 'approved'),
    ('account-0005', x'6f70656e696e67', 0, -100000, 'approved'),
    ('account-0006', x'6f70656e696e67', 0, -100000, 'approved'),
    ('account-0008', x'6f70656e696e67', 0, -100000, 'approved'),
    ('account-0001', x'0000512a244e6deab375d362a7f5b5bc554015510000000100000001', 20778, 600, 'approved'),
    ('account-0002', x'0000512ae0d8e3afb964a2189c5338d5701d6b240000000100000001', 20778, 200, 'no_funds'),
    ('account-0002', x'0000512ae0d8e3afb964a2189c5338d5701d6b240000000100000002', 20778, 200, 'approved'),
    ('account-0003', x'0000512aa65425954988ded823e8aaba03818aa10000000100000001', 20778, 600, 'no_funds'),
    ('account-0004', x'0000512a4e233b61ab8bc873615e83e21e385f630000000100000001', 20778, 900, 'no_funds'),
    ('account-0006', x'0000512a21c16d54ddc7a8413bdabb873142741b0000000100000001', 20778, 1100, 'approved'),
    ('account-0006', x'0000512a21c16d54ddc7a8413bdabb873142741b0000000200000001', 20778, -300, 'approved');
