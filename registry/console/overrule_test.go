package console

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"roadstead/cache"
	"roadstead/registry"
	"roadstead/registry/signature"
	"roadstead/storage/catalog"
)

const publicKey = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEa0OfDZ53ZDV2xxlG7fK2onY9oNox
RXZV17f92VRgsXVc5isIoeWF4ovzlcc28WrTvIIzCWyEeqh25NN5y0ImJw==
-----END PUBLIC KEY-----
`

func TestPolicySettings(t *testing.T) {
	v := open(t)
	b := v.as("admin")
	for field, form := range map[string]url.Values{
		"cooldown": {"cooldown": {"soon"}}, "verify": {"verify": {"strict"}, "verify_keys": {publicKey}},
		"verify_keys": {"verify": {"enforce"}, "verify_keys": {"no key"}},
	} {
		b.post("/c/projects/hub/settings", form).has(t, http.StatusUnprocessableEntity, `id="`+field+`-wrong"`)
	}
	b.post("/c/projects/hub/settings", url.Values{"cooldown": {"3d"}, "cooldown_new": {"on"}, "verify": {"warn"}, "verify_keys": {publicKey}}).
		leads(t, "/c/projects/hub/settings?done=project.changed")
	b.get("/c/projects/hub/settings").has(t, http.StatusOK, `value="3d"`, `value="warn" selected`, "BEGIN PUBLIC KEY")
	b.post("/c/projects/hub/settings", url.Values{"cooldown": {""}, "verify": {""}}).leads(t, "/c/projects/hub/settings?done=project.changed")
	b.get("/c/projects/hub/settings").has(t, http.StatusOK, `<option value="warn">`)
}

func TestOverrule(t *testing.T) {
	v := open(t)
	repo := registry.Repo{Project: "hub", Name: "library/busybox"}
	v.image(repo, "1.36", plainConfig, `{}`)
	b := v.as("admin")
	b.post("/c/projects/hub/settings", url.Values{"cooldown": {"3d"}, "verify": {"enforce"}, "verify_keys": {publicKey}}).leads(t, "/c/projects/hub/settings?done=project.changed")
	keys, err := signature.ParseKeys([]byte(publicKey))
	v.must(err)
	v.must(v.cached.SetProjects([]cache.Project{{
		Name: "hub", Upstream: struct{ registry.Reader }{}, Cooldown: 72 * time.Hour, Verify: cache.Verify{Mode: cache.Enforce, Keys: keys},
	}}))
	tag, err := v.db.Tag(t.Context(), repo, "1.36")
	if err != nil {
		t.Fatal(err)
	}
	at, way := "/c/artifacts/hub/library/busybox?ref=1.36", "/c/overrule/hub/library/busybox"
	b.get(at).has(t, http.StatusOK, "Not looked at yet", "Serve it all the same")
	by := url.Values{"ref": {tag.Digest.String()}, "do": {"override"}, "reason": {""}}
	b.post(way, by).has(t, http.StatusUnprocessableEntity)
	by.Set("reason", "the vendor signs from May on")
	v.as("gina").post(way, by).has(t, http.StatusForbidden)
	b.post(way, by).leads(t, "/c/artifacts/hub/library/busybox?ref="+url.QueryEscape(tag.Digest.String())+"&done=policy.let")
	b.get(at).has(t, http.StatusOK, "Let through by admin: the vendor signs from May on", `value="withdraw"`)
	b.get("/c/audit").has(t, http.StatusOK, "served without a signature: the vendor signs from May on")
	by.Set("do", "withdraw")
	b.post(way, by).leads(t, "/c/artifacts/hub/library/busybox?ref="+url.QueryEscape(tag.Digest.String())+"&done=policy.withdrawn")
	b.get(at).has(t, http.StatusOK, "Not looked at yet")

	b.post(way, url.Values{"ref": {"1.36"}, "do": {"release"}}).has(t, http.StatusNotFound)
	b.post(way, url.Values{"ref": {"1.36"}, "do": {"override"}}).has(t, http.StatusUnprocessableEntity)
	next := registry.Descriptor{MediaType: registry.MediaTypeOCIManifest, Digest: digest.FromString("next"), Size: 1}
	err = v.db.Update(t.Context(), func(tx *catalog.Tx) error {
		_, err := tx.Hold(repo, "1.36", next, time.Now())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b.get(at).has(t, http.StatusOK, "Upstream has moved it to", `value="release"`)
}
