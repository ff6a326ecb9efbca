package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"roadstead/rewrite"
)

func TestWhatIsWarmed(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "list.txt", "docker.io/rancher/mirrored-pause:3.6\nbusybox\n")
	write(t, "pod.yaml", "kind: Pod\nspec: {containers: [{image: quay.io/team/app:1}]}\n")
	write(t, "empty.yaml", "kind: Service\n")
	if err := os.Mkdir("chart", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join("chart", "Chart.yaml"), "name: a\n")
	t.Setenv("PATH", t.TempDir()) // where no helm is
	for _, row := range []struct {
		name      string
		warm      Warm
		want, err string
	}{
		{"names, files and stdin, each image once", Warm{Images: []string{"docker.io/library/busybox:latest", "-"}, File: []string{"list.txt", "pod.yaml"}},
			"docker.io/library/busybox:latest ghcr.io/team/in:2 docker.io/rancher/mirrored-pause:3.6 quay.io/team/app:1", ""},
		{"nothing", Warm{}, "", "no image is named; write some"},
		{"a file that names none", Warm{File: []string{"empty.yaml"}}, "", "empty.yaml names no image"},
		{"no file", Warm{File: []string{"none.txt"}}, "", "open none.txt"},
		{"no name", Warm{Images: []string{"team/UPPER"}}, "", "the command line: line 1: "},
		{"a chart without helm", Warm{Images: []string{"./chart"}}, "", "./chart is a Helm chart, and there is no helm here"},
	} {
		got, err := row.warm.list(strings.NewReader("ghcr.io/team/in:2\n"))
		if all := nameAll(got); all != row.want {
			t.Errorf("%s: got %q, want %q", row.name, all, row.want)
		}
		if (err == nil) != (row.err == "") || err != nil && !strings.Contains(err.Error(), row.err) {
			t.Errorf("%s: error %v, want %q", row.name, err, row.err)
		}
	}
}

func nameAll(listed []rewrite.Listed) string {
	var all []string
	for _, one := range listed {
		all = append(all, one.String())
	}
	return strings.Join(all, " ")
}

// Whoever may not know it is told what to write, before anything is asked.
func TestWhoWarms(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "password", "secret\n")
	for _, row := range []struct {
		name  string
		flags remoteFlags
		want  string // URL, or a part of the error
	}{
		{"nobody", remoteFlags{}, "has to log in"},
		{"without a password", remoteFlags{Username: "robot$a"}, "has to log in"},
		{"the server of this machine", remoteFlags{Username: "a", PasswordFile: "password"}, "http://127.0.0.1:5000"},
		{"another one", remoteFlags{Username: "a", PasswordFile: "password", Server: "https://mirror.example.com/"}, "https://mirror.example.com"},
		{"no URL", remoteFlags{Username: "a", PasswordFile: "password", Server: "mirror.example.com"}, "is no URL"},
		{"no authority", remoteFlags{Username: "a", PasswordFile: "password", Server: "https://a.example", CA: "password"}, "no certificate in password"},
	} {
		r, err := row.flags.remote(settings{}, row.flags.PasswordFile)
		got := ""
		if err != nil {
			got = err.Error()
		} else if got = r.base; r.password != "secret" {
			t.Errorf("%s: the password is %q", row.name, r.password)
		}
		if !strings.Contains(got, row.want) {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

// The lines of a dry run and its end agree, also when the server has been restarted in the middle of it.
func TestWhatADryRunSays(t *testing.T) {
	const mib = 1 << 20
	here := `{"name":"a","state":"here","done":3145728,"total":3145728}`
	lacks := func(name string) string {
		return `{"name":"` + name + `","state":"missing","done":1048576,"total":3145728}`
	}
	for _, row := range []struct {
		name string
		said []string // images, as the server tells of them
		done int64
		want string
	}{
		{"nothing shared", []string{here + "," + lacks("b")}, 4 * mib, "1 of 2 images are not here whole; 2 MiB of 6 MiB are missing"},
		{"two that lack the same", []string{lacks("a") + "," + lacks("b")}, 4 * mib, "2 of 2 images are not here whole; 2 MiB of 6 MiB are missing, with what they share counted once"},
		{"a server that was restarted", []string{lacks("a"), "", lacks("a") + "," + here}, 4 * mib, "1 of 2 images are not here whole; 2 MiB of 6 MiB are missing"},
	} {
		var out, said bytes.Buffer
		show := newWarming(streams{&out, &said}, true)
		var last warmup
		for _, images := range row.said {
			if images == "" {
				show.again()
				continue
			}
			last = warmup{Count: 2, Ended: 2, Done: row.done, Total: 6 * mib}
			if err := json.Unmarshal([]byte("["+images+"]"), &last.Images); err != nil {
				t.Fatal(err)
			}
			last.Job.State = "success"
			show.set(last)
		}
		if err := show.verdict(last); err == nil || err.Error() != row.want {
			t.Errorf("%s: it ends with %v, want %q", row.name, err, row.want)
		}
		if lines := strings.Count(out.String(), "missing  a: 2 MiB of 3 MiB\n"); lines > 1 {
			t.Errorf("%s: it wrote\n%s", row.name, out.String())
		}
	}
}
