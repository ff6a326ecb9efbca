package registries

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"roadstead/rewrite"
)

// Who may have an image explained may paste any file: none takes long.
func TestHostileFilesTakeNoTime(t *testing.T) {
	var merges, hosts, aliases strings.Builder
	merges.WriteString("a0: &a0 { x: 1 }\n")
	for i := range 60 {
		fmt.Fprintf(&merges, "a%d: &a%d { <<: [ *a%d, *a%d ] }\n", i+1, i+1, i, i)
	}
	merges.WriteString("mirrors: { <<: *a60 }\n")
	for _, section := range []string{"mirrors", "configs"} {
		fmt.Fprintf(&hosts, "%s:\n", section)
		for i := range 20_000 {
			fmt.Fprintf(&hosts, "  h%d.x:\n", i)
		}
	}
	aliases.WriteString("configs: { a.x: &a { rewrite: {")
	for i := range 20_000 {
		fmt.Fprintf(&aliases, " r%d: x,", i)
	}
	aliases.WriteString(" }, endpoint: [" + strings.Repeat("x,", 20_000) + "] } }\nmirrors:\n")
	for i := range 50_000 {
		fmt.Fprintf(&aliases, "  h%d.x: *a\n", i)
	}
	for name, text := range map[string]string{"merges": merges.String(), "hosts": hosts.String(), "aliases": aliases.String(), "itself": "mirrors: &a { <<: [ *a, *a ] }"} {
		start := time.Now()
		f, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, client := range Clients {
			Steps(f, rewrite.Image{Host: "quay.io", Name: "team/app", Tag: "1"}, client)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s take %s", name, took)
		}
	}
}
