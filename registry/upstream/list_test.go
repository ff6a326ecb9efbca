package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"roadstead/registry"
	"roadstead/registry/registrytest"
)

func TestTags(t *testing.T) {
	base := "GET /v2/a/tags/list"
	list := func(tags string) registrytest.Fault {
		return registrytest.Answer("application/json", `{"name":"a","tags":`+tags+`}`)
	}
	for _, row := range []struct {
		name     string
		page     int
		fault    registrytest.Fault
		after    string
		n        int
		want     []string
		requests []string
	}{
		{"all", 0, nil, "", -1, []string{"a", "b", "c", "d", "e"}, []string{base + "?n=1000"}},
		{"all, on pages", 2, nil, "", -1, []string{"a", "b", "c", "d", "e"},
			[]string{base + "?n=1000", base + "?last=b&n=1000", base + "?last=d&n=1000"}},
		{"some", 0, nil, "", 2, []string{"a", "b"}, []string{base + "?n=1000"}},
		{"some after one", 0, nil, "b", 2, []string{"c", "d"}, []string{base + "?n=1000"}},
		{"more than there are after one", 0, nil, "d", 7, []string{"e"}, []string{base + "?n=1000"}},
		{"after one that is not there", 0, nil, "bb", -1, []string{"c", "d", "e"}, []string{base + "?n=1000"}},
		{"after the last", 0, nil, "e", -1, []string{}, []string{base + "?n=1000"}},
		{"some, on pages", 2, nil, "", 3, []string{"a", "b", "c"},
			[]string{base + "?n=1000", base + "?last=b&n=1000", base + "?last=d&n=1000"}},
		{"unsorted", 0, list(`["c","a","B","b"]`), "", -1, []string{"B", "a", "b", "c"}, []string{base + "?n=1000"}},
		{"unsorted after one", 0, list(`["c","a","B","b"]`), "a", 1, []string{"b"}, []string{base + "?n=1000"}},
		{"unsorted, the last in upstream's order", 0, list(`["c","a","z","b"]`), "b", 5, []string{"c", "z"}, []string{base + "?n=1000"}},
		{"a list that always begins at the beginning", 0, list(`["a","b","c"]`), "b", 5, []string{"c"}, []string{base + "?n=1000"}},
		{"twice the same", 0, list(`["a","a","b"]`), "", -1, []string{"a", "b"}, []string{base + "?n=1000"}},
		{"A5 names that nobody could ask for", 0, list(`["a","../../etc","-x","b c",""]`), "", -1, []string{"a"}, []string{base + "?n=1000"}},
		{"null", 0, list(`null`), "", -1, []string{}, []string{base + "?n=1000"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.New(t)
			for _, tag := range []string{"a", "b", "c", "d", "e"} {
				up.PutImage("a", tag, []byte(tag))
			}
			up.Set(registrytest.Knobs{Page: row.page})
			if row.fault != nil {
				up.Fail("", 0, row.fault)
			}
			got, err := open(t, Config{}, up).Tags(t.Context(), repo("a"), row.after, row.n)
			if err != nil || !slices.Equal(got, row.want) {
				t.Errorf("got %q, %v, want %q", got, err, row.want)
			}
			wants(t, up, row.requests...)
		})
	}
}

// TestLists is A1, A7 and U13 for what comes in pages.
func TestLists(t *testing.T) {
	sentinel := registrytest.New(t)
	tags := func(link string) registrytest.Fault {
		return registrytest.Both(registrytest.Header("Link", link), registrytest.Answer("application/json", `{"tags":["a"]}`))
	}
	index := func(link string) registrytest.Fault {
		return registrytest.Both(registrytest.Header("Link", link), registrytest.Answer(registry.MediaTypeOCIIndex, `{"manifests":[]}`))
	}
	for _, row := range []struct {
		name  string
		fault registrytest.Fault // of tags
		other registrytest.Fault // of referrers
		most  int                // requests
		says  string
	}{
		{"A1 the next page is elsewhere", tags("<" + sentinel.URL() + "/v2/x?canary>; rel=next"), index("<" + sentinel.URL() + "/v2/x?canary>; rel=next"), 1, "on another host"},
		{"A1 the next page is elsewhere, without a scheme", tags("<//" + sentinel.Host() + "/v2/x?canary>; rel=next"), index("<//" + sentinel.Host() + "/?canary>; rel=next"), 1, "on another host"},
		{"A1 the next page has a user", tags("<http://u:canary@example/>; rel=next"), index("<http://u:canary@example/>; rel=next"), 1, "is not a URL"},
		{"the next page is no URL", tags("<http://[canary>; rel=next"), index("<http://[canary>; rel=next"), 1, "is not a URL"},
		{"A7 no page is the last", tags("</v2/a/tags/list?n=1000>; rel=next"), index("</v2/a/tags/list>; rel=next"), maxPages, "it does not end"},
		{"A7 a page too long", registrytest.Answer("application/json", strings.Repeat(" ", registry.MaxManifest+1)),
			registrytest.Answer("application/json", strings.Repeat(" ", registry.MaxManifest+1)), 1, "sent more than"},
		{"U13 a portal", registrytest.HTML(), registrytest.HTML(), 1, "is not a list"},
		{"an object that is something else", registrytest.Answer("application/json", `{}`), registrytest.Answer("application/json", `{}`), 1, "there is no list in it"},
		{"a list of something else", registrytest.Answer("application/json", `{"tags":[1]}`), registrytest.Answer("application/json", `{"manifests":[1]}`), 1, "is not a list"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, kind := range []string{"tags", "referrers"} {
				up := registrytest.New(t)
				up.Require(registrytest.Auth{Basic: true, Username: "u", Password: "p"})
				d := up.PutImage("a", "1", []byte("x"))
				r := open(t, Config{Credentials: Credentials{Username: "u", Password: "p"}}, up)
				if _, err := r.Resolve(t.Context(), repo("a"), "1"); err != nil {
					t.Fatal(err)
				}
				up.Reset()
				var err error
				if kind == "tags" {
					up.Fail("", 0, row.fault)
					_, err = r.Tags(t.Context(), repo("a"), "", -1)
				} else {
					up.Fail("", 0, row.other)
					_, err = r.Referrers(t.Context(), repo("a"), d, "")
				}
				fault(t, err, registry.Unavailable)
				if !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "canary") {
					t.Errorf("%s: error %q, want %q in it", kind, err, row.says)
				}
				if n := len(up.Requests()); n > row.most {
					t.Errorf("%s: %d requests, want at most %d", kind, n, row.most)
				}
			}
		})
	}
	wants(t, sentinel)
}

// TestListTooLong is A7 over all pages.
func TestListTooLong(t *testing.T) {
	up := registrytest.New(t)
	page := `{"tags":["a"]` + strings.Repeat(" ", registry.MaxManifest-100) + `}`
	up.Fail("", 0, registrytest.Both(registrytest.Header("Link", "</v2/a/tags/list>; rel=next"), registrytest.Answer("application/json", page)))
	_, err := open(t, Config{}, up).Tags(t.Context(), repo("a"), "", -1)
	fault(t, err, registry.Unavailable)
	if n, most := len(up.Requests()), maxListing/len(page)+1; n > most {
		t.Errorf("%d requests, want at most %d", n, most)
	}
}

// TestPagesElsewhere follows the pages of a list that was redirected, as a stranger.
func TestPagesElsewhere(t *testing.T) {
	up, other := registrytest.New(t), registrytest.New(t)
	up.Require(registrytest.Auth{Basic: true, Username: "u", Password: "p"})
	for _, tag := range []string{"a", "b", "c"} {
		other.PutImage("a", tag, []byte(tag))
	}
	other.Set(registrytest.Knobs{Page: 2})
	up.PutImage("a", "a", nil)
	r := open(t, Config{Credentials: Credentials{Username: "u", Password: "p"}}, up)
	if _, err := r.Resolve(t.Context(), repo("a"), "a"); err != nil { // so that it is known to want Basic
		t.Fatal(err)
	}
	up.Reset()
	up.Fail("", 0, registrytest.Redirect(other.URL()))
	got, err := r.Tags(t.Context(), repo("a"), "", -1)
	if err != nil || !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("got %q, %v", got, err)
	}
	wants(t, up, "GET /v2/a/tags/list?n=1000")
	wants(t, other, "GET /v2/a/tags/list?n=1000", "GET /v2/a/tags/list?last=b&n=1000")
	if got := other.Secrets(); len(got) > 0 {
		t.Errorf("secrets left in %q", got)
	}
}

func TestReferrers(t *testing.T) {
	for _, row := range []struct {
		name  string
		knobs registrytest.Knobs
		only  string
		want  int
		asked []string // %s is the digest
	}{
		{"all", registrytest.Knobs{}, "", 3, []string{"GET /v2/a/referrers/%s"}},
		{"of a type", registrytest.Knobs{}, "application/vnd.x", 2, []string{"GET /v2/a/referrers/%s?artifactType=application/vnd.x"}},
		{"of a type, and upstream does not filter", registrytest.Knobs{NoFilter: true}, "application/vnd.x", 2, []string{"GET /v2/a/referrers/%s?artifactType=application/vnd.x"}},
		{"of no type that is there", registrytest.Knobs{NoFilter: true}, "application/vnd.z", 0, []string{"GET /v2/a/referrers/%s?artifactType=application/vnd.z"}},
		{"no API", registrytest.Knobs{NoReferrers: true}, "", 3, []string{"GET /v2/a/referrers/%s", "GET /v2/a/manifests/sha256-%h"}},
		{"no API, of a type", registrytest.Knobs{NoReferrers: true}, "application/vnd.y", 1,
			[]string{"GET /v2/a/referrers/%s?artifactType=application/vnd.y", "GET /v2/a/manifests/sha256-%h"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.New(t)
			image := up.PutImage("a", "1", []byte("x"))
			var referrers []registry.Digest
			for i, kind := range []string{"application/vnd.x", "application/vnd.x", "application/vnd.y"} {
				referrers = append(referrers, up.PutReferrer("a", image, kind, []byte{byte(i)}))
			}
			up.PutIndex("a", "sha256-"+image.Encoded(), referrers...)
			up.Set(row.knobs)
			got, err := open(t, Config{}, up).Referrers(t.Context(), repo("a"), image, row.only)
			if err != nil || len(got) != row.want {
				t.Errorf("got %v, %v, want %d", got, err, row.want)
			}
			for _, desc := range got {
				if !slices.Contains(referrers, desc.Digest) || row.only != "" && desc.ArtifactType != row.only {
					t.Errorf("got %v", desc)
				}
			}
			var want []string
			for _, line := range row.asked {
				want = append(want, strings.NewReplacer("%s", image.String(), "%h", image.Encoded()).Replace(line))
			}
			wants(t, up, want...)
		})
	}
}

func TestReferrersOnPages(t *testing.T) {
	up := registrytest.New(t)
	image := up.PutImage("a", "1", []byte("x"))
	for i := range 5 {
		up.PutReferrer("a", image, "application/vnd.x", []byte{byte(i)})
	}
	up.Set(registrytest.Knobs{Page: 2})
	got, err := open(t, Config{}, up).Referrers(t.Context(), repo("a"), image, "")
	if err != nil || len(got) != 5 || len(up.Requests()) != 3 {
		t.Errorf("got %d, %v with %q", len(got), err, up.Requests())
	}
}

// TestReferrersOfSHA512 cuts the fallback tag to what a tag may be.
func TestReferrersOfSHA512(t *testing.T) {
	up := registrytest.New(t)
	up.Set(registrytest.Knobs{NoReferrers: true})
	d := digest.SHA512.FromString("x")
	image := up.PutImage("a", "", []byte("x"))
	up.PutIndex("a", "sha512-"+d.Encoded()[:64], image)
	got, err := open(t, Config{}, up).Referrers(t.Context(), repo("a"), d, "")
	if err != nil || len(got) != 1 || got[0].Digest != image {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestReferrersThatAreOdd(t *testing.T) {
	good := digest.FromString("good")
	for _, row := range []struct {
		name  string
		fault registrytest.Fault
		want  int
		code  registry.Code
	}{
		{"A5 a digest that is a path", registrytest.Answer(registry.MediaTypeOCIIndex, fmt.Sprintf(`{"manifests":[{"digest":"sha256:../../x"},{"digest":%q,"size":-1},{"digest":%q}]}`, good, good)), 1, ""},
		{"the API is a bad request", registrytest.Status(http.StatusBadRequest), 0, registry.Unavailable},
		{"the API is denied", registrytest.Status(http.StatusForbidden), 0, registry.Denied},
		{"everything is 404", registrytest.Status(http.StatusNotFound), 0, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.New(t)
			up.Fail("", 0, row.fault)
			got, err := open(t, Config{}, up).Referrers(t.Context(), repo("a"), good, "")
			if row.code == "" && (err != nil || got == nil || len(got) != row.want) {
				t.Errorf("got %v, %v, want %d", got, err, row.want)
			}
			if row.code != "" {
				fault(t, err, row.code)
			}
		})
	}
	t.Run("upstream filters by types that its descriptors leave out", func(t *testing.T) {
		up := registrytest.New(t)
		up.Fail("", 0, registrytest.Both(registrytest.Header("OCI-Filters-Applied", "x, artifactType"),
			registrytest.Answer(registry.MediaTypeOCIIndex, fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, good))))
		got, err := open(t, Config{}, up).Referrers(t.Context(), repo("a"), good, "application/vnd.x")
		if err != nil || len(got) != 1 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

// A list of more than a page is asked for from the tag that is named, if upstream counts in
// byte order, and else read whole.
func TestTagsOfALargeRepository(t *testing.T) {
	const base = "GET /v2/a/tags/list"
	var sorted []string
	for i := range 2500 {
		sorted = append(sorted, fmt.Sprintf("v%04d", i))
	}
	unsorted := slices.Clone(sorted)
	slices.Reverse(unsorted)
	for _, row := range []struct {
		name     string
		tags     []string
		requests []string
	}{
		{"in byte order", sorted, []string{base + "?n=1000", base + "?last=v2000&n=1000"}},
		{"in another order", unsorted, []string{base + "?n=1000", base + "?n=1000", base + "?last=v1500&n=1000", base + "?last=v0500&n=1000"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			up := registrytest.New(t)
			up.Fail("/tags/list", 0, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					rest := row.tags
					if last := r.URL.Query().Get("last"); last != "" {
						rest = rest[slices.Index(rest, last)+1:]
					}
					if len(rest) > 1000 {
						rest = rest[:1000]
						w.Header().Set("Link", fmt.Sprintf(`</v2/a/tags/list?last=%s&n=1000>; rel="next"`, rest[999]))
					}
					json.NewEncoder(w).Encode(map[string]any{"name": "a", "tags": rest})
				})
			})
			got, err := open(t, Config{}, up).Tags(t.Context(), repo("a"), "v2000", 3)
			if want := []string{"v2001", "v2002", "v2003"}; err != nil || !slices.Equal(got, want) {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
			wants(t, up, row.requests...)
		})
	}
}
