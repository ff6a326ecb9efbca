package registry

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/image-spec/specs-go/v1"
)

func imageRefs(layers ...string) References {
	refs := References{Config: &Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: someDigest}}
	for _, l := range layers {
		refs.Layers = append(refs.Layers, Descriptor{MediaType: l, Digest: someDigest})
	}
	return refs
}

func TestParseConfig(t *testing.T) {
	refs := imageRefs("base", "app")
	refs.Annotations = map[string]string{"a": "b"}
	c, err := ParseConfig(refs, []byte(`{
		"architecture":"arm64","variant":"v8","os":"linux","created":"2024-05-01T12:00:00.5Z","author":"me",
		"config":{"User":"65532","Env":["PATH=/bin","A="],"Entrypoint":["/app"],"Cmd":["-v",""],"WorkingDir":"/srv",
			"ExposedPorts":{"8080/tcp":{},"53/udp":{}},"Labels":{"x":"<script>"}},
		"rootfs":{"type":"layers","diff_ids":["sha256:1","sha256:2"]},
		"history":[{"created":"2024-05-01T11:00:00Z","created_by":"ADD / /"},{"created_by":"ENV A=","empty_layer":true,"comment":"c","author":"a"},{"created":"yesterday","created_by":"COPY"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	want := Config{
		Image: true, Annotations: refs.Annotations, Layers: refs.Layers,
		OS: "linux", Architecture: "arm64", Variant: "v8", Created: noon.Add(time.Second / 2), Author: "me",
		User: "65532", WorkingDir: "/srv", Env: []string{"PATH=/bin", "A="}, Entrypoint: []string{"/app"}, Cmd: []string{"-v", ""},
		ExposedPorts: []string{"53/udp", "8080/tcp"}, Labels: map[string]string{"x": "<script>"},
		History: []Step{
			{Created: noon.Add(-time.Hour), CreatedBy: "ADD / /", Layer: &refs.Layers[0]},
			{CreatedBy: "ENV A=", Empty: true, Comment: "c", Author: "a"},
			{CreatedBy: "COPY", Layer: &refs.Layers[1]},
		},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// History that does not fit the layers is shown without them: a wrong size beside a command would
// be worse than none.
func TestHistoryThatDoesNotFit(t *testing.T) {
	for _, layers := range [][]string{nil, {"one"}, {"one", "two", "three"}} {
		c, err := ParseConfig(imageRefs(layers...), []byte(`{"history":[{"created_by":"a"},{"created_by":"b"},{"created_by":"c","empty_layer":true}]}`))
		if err != nil || len(c.History) != 3 {
			t.Fatalf("%d steps, %v", len(c.History), err)
		}
		for _, s := range c.History {
			if s.Layer != nil {
				t.Errorf("%d layers: %s is said to have made one", len(layers), s.CreatedBy)
			}
		}
	}
}

func TestConfigOfAnArtifact(t *testing.T) {
	refs := References{
		Config:       &Descriptor{MediaType: "application/vnd.cncf.helm.config.v1+json", Digest: someDigest},
		ArtifactType: "application/vnd.cncf.helm.config.v1+json", Annotations: map[string]string{"version": "1"},
		Layers: []Descriptor{{MediaType: "chart", Digest: someDigest}},
	}
	want := Config{ArtifactType: refs.ArtifactType, Annotations: refs.Annotations, Layers: refs.Layers}
	if c, err := ParseConfig(refs, []byte(`not even JSON`)); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", c, err)
	}
	index := References{ArtifactType: "application/x", Annotations: refs.Annotations}
	if c, err := ParseConfig(index, nil); err != nil || c.Image || c.ArtifactType != "application/x" {
		t.Errorf("got %+v, %v", c, err)
	}
}

// hostile are configurations that must be refused, whatever they cost whoever made them.
var hostile = map[string]string{
	"empty":               "",
	"no object":           `[]`,
	"broken off":          `{"os":"linux"`,
	"too long":            `{"author":"` + strings.Repeat("a", MaxConfig) + `"}`,
	"history no list":     `{"history":{"created":"x"}}`,
	"history of strings":  `{"history":["x"]}`,
	"very much history":   `{"history":[` + strings.Repeat("{},", mostListed) + `{}]}`,
	"very many variables": `{"config":{"Env":[` + strings.Repeat(`"",`, mostListed) + `""]}}`,
	"variables no list":   `{"config":{"Env":{"a":"b"}}}`,
	"variables of lists":  `{"config":{"Env":[["a"]]}}`,
	"numbers":             `{"os":1}`,
	"very deep":           `{"history":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
	"very many labels":    `{"config":{"Labels":{` + labels(mostListed+1) + `}}}`,
	"labels that are not": `{"config":{"Labels":{"a":[1]}}}`,
}

func labels(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`"%x":""`, i)
	}
	return strings.Join(all, ",")
}

func TestHostileConfig(t *testing.T) {
	refs := imageRefs("one")
	refs.Annotations = map[string]string{"a": "b"}
	for name, body := range hostile {
		c, err := ParseConfig(refs, []byte(body))
		if !errors.Is(err, ManifestInvalid) || !c.Image || len(c.Layers) != 1 || c.Annotations["a"] != "b" || c.History != nil {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, body := range hostile {
		f.Add([]byte(body), 1)
	}
	for _, body := range []string{
		`{}`, `null`, `{"history":null,"config":null}`, `{"history":[null]}`, `{"config":{"Env":[null],"ExposedPorts":{"":null}}}`,
		`{"created":"0000-00-00T00:00:00Z","OS":"linux","os":"windows"}`, "{\"author\":\"\xff\u202e\\u0000</script>\"}",
		`{"history":[{"created_by":"a"},{"empty_layer":true},{"created_by":"b"}]}`,
	} {
		f.Add([]byte(body), 2)
	}
	f.Fuzz(func(t *testing.T, body []byte, layers int) {
		refs := imageRefs(make([]string, max(0, min(layers, 100)))...)
		c, err := ParseConfig(refs, body)
		if err != nil && !errors.Is(err, ManifestInvalid) {
			t.Errorf("%v is of no kind", err)
		}
		if len(c.History) > mostListed || len(c.Env) > mostListed || len(c.Labels) > mostListed {
			t.Error("there is no bound")
		}
		matched := 0
		for _, s := range c.History {
			if s.Empty && s.Layer != nil {
				t.Error("an empty step has a layer")
			}
			if s.Layer != nil {
				matched++
			}
		}
		if matched != 0 && matched != len(refs.Layers) {
			t.Errorf("%d of %d layers have a step", matched, len(refs.Layers))
		}
	})
}
