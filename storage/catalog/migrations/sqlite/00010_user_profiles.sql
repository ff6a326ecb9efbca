-- +goose Up

-- What a user is called in full and what there is to remark, in the words of whoever administers by
-- Harbor's API, whose clients compare them with what they sent.
ALTER TABLE users ADD COLUMN real_name TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN comment TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE users DROP COLUMN comment;
ALTER TABLE users DROP COLUMN real_name;
