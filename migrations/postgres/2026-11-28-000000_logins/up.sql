-- A family of refresh tokens ends; those that are there end with the token that counts now. The token
-- against forged requests follows from the session itself, so nothing of it is
-- kept; no release has written it.
ALTER TABLE refresh_tokens ADD COLUMN family_ends_at TIMESTAMP NOT NULL DEFAULT '1970-01-01 00:00:00';
UPDATE refresh_tokens SET family_ends_at = expires_at;
ALTER TABLE sessions DROP COLUMN csrf;
