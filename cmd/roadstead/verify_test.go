package main

import (
	"strings"
	"testing"
	"time"

	"roadstead/cache"
)

// cosignKey is a public key as "cosign generate-key-pair" writes it.
const cosignKey = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEa0OfDZ53ZDV2xxlG7fK2onY9oNox
RXZV17f92VRgsXVc5isIoeWF4ovzlcc28WrTvIIzCWyEeqh25NN5y0ImJw==
-----END PUBLIC KEY-----
`

func TestWhatIsAskedOfSignatures(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "cosign.pub", cosignKey)
	c, faults := parse(t, `projects: { quay.io: { cooldown: 3d, verify: { keys: cosign.pub } } }`)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, p := range c.Projects {
		if p.Name == "quay.io" {
			got := cacheProject(p, nil)
			if got.Cooldown != 72*time.Hour || got.Verify.Mode != cache.Enforce || len(got.Verify.Keys) != 1 {
				t.Errorf("it is cached as %+v", got)
			}
		}
	}
	write(t, "private.key", "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
	for below, want := range map[string]string{
		`verify: { mode: enforce }`:                                              "there is no key",
		`verify: { mode: strict, keys: cosign.pub }`:                             `"strict" is no word for this`,
		`verify: { keys: none.pub }`:                                             "cannot be read",
		`verify: { keys: private.key }`:                                          `"PUBLIC KEY" is wanted`,
		`verify: { keys: cosign.pub, identities: [ { subject: a@b.example } ] }`: "not supported",
		`verify: `:                       "it says nothing",
		`cooldown_new: true`:             "there is no cooldown",
		`{ hosted: true, cooldown: 1h }`: "a hosted project has no upstream",
	} {
		if !strings.HasPrefix(below, "{") {
			below = "{ " + below + " }"
		}
		_, faults := parse(t, "projects: { quay.io: "+below+" }")
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), want) {
			t.Errorf("%s: %v, want one fault that says %q", below, faults, want)
		}
	}
}
