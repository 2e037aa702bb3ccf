-- The audit log gives up the name of an e-account whose person was erased in the lines of pay-outs, too.
DROP TRIGGER audit_log_stays ON audit_log;
CREATE TRIGGER audit_log_stays BEFORE UPDATE ON audit_log FOR EACH ROW
    WHEN (NOT (NEW.id = OLD.id AND NEW.at_ms = OLD.at_ms AND NEW."user" = OLD."user" AND NEW.action = OLD.action
        AND NEW.subject IN (OLD.subject, 'erased') AND NEW.detail = 'erased'
        AND OLD.action IN ('token.issue', 'token.register', 'account.open', 'account.deposit', 'account.pay_out')))
    EXECUTE FUNCTION refuse('the audit log is append-only');
