-- When the bank last declined a debt, by the gateway's clock: the next try counts from it. NULL: before this was kept.
ALTER TABLE debts ADD COLUMN asked_ms BIGINT;

-- What is still owed of a day, in the order in which it is asked for again.
CREATE INDEX debts_open ON debts (service_day, token_key, part) WHERE state = 'open';

-- Who looks at a break, and what was last said of it: the audit log has everything that was.
ALTER TABLE breaks ADD COLUMN assigned_to TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE breaks ADD COLUMN note TEXT COLLATE "C" NOT NULL DEFAULT '';
