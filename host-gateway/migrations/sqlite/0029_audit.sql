-- What was done to a token, a gate or a day is looked up by it.
CREATE INDEX audit_log_subject ON audit_log (subject);
