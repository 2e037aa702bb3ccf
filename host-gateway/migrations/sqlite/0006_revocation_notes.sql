-- Who revoked an issuer certificate, when, and why.
ALTER TABLE revocations ADD COLUMN since_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE revocations ADD COLUMN by TEXT NOT NULL DEFAULT '';
ALTER TABLE revocations ADD COLUMN note TEXT NOT NULL DEFAULT '';
