package registries

import (
	"os"
	"path/filepath"
	"testing"

	"roadstead/rewrite"
)

// Whatever is in a file, reading it ends, and so does all that is said of it.
func FuzzFile(f *testing.F) {
	files, err := filepath.Glob("testdata/lint/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("there is no corpus: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "docker.io/library/busybox:1")
	}
	known := house(f)
	f.Fuzz(func(t *testing.T, text, name string) {
		file, err := Parse([]byte(text))
		if err != nil || len(text) > 2000 {
			return
		}
		Lint(t.Context(), file, known)
		file.HostsTOML()
		image, err := rewrite.ParseImage(name)
		if err != nil {
			return
		}
		for _, client := range Clients {
			for _, s := range Steps(file, image, client).Steps {
				if len(s.Outcomes) == 0 {
					t.Errorf("%s asks %s for nothing", client, s.Endpoint)
				}
			}
		}
	})
}
