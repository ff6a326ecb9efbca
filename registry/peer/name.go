package peer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// The name of an upload, as clients see it, is "<label>-<id>-<seal>": the label is that of the node
// where the upload is, and the seal shows that it was this cluster who gave out the two together.
// All of it is digits and upper-case letters. A client learns neither how many nodes there are, nor
// what they are called or where; and what it makes up itself leads nowhere.

// label stands for a node.
func (s Secret) label(node string) string { return s.short("the label of a node", node) }

// name makes the name of an upload.
func (s Secret) name(label, id string) string {
	return label + "-" + id + "-" + s.short("the name of an upload", label, id)
}

// parseName takes a name apart, if this cluster has made it.
func (s Secret) parseName(name string) (label, id string, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 || !hmac.Equal([]byte(name), []byte(s.name(parts[0], parts[1]))) {
		return "", "", false
	}
	return parts[0], parts[1], true
}

// short is a keyed hash of some words, for a purpose of its own, in 13 letters: what it hides is no
// secret, and what it protects is found out to be wrong soon after.
func (s Secret) short(purpose string, words ...string) string {
	h := hmac.New(sha256.New, []byte(s))
	h.Write([]byte(purpose + "\n" + strings.Join(words, "\n"))) // which never fails
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:8])
}
