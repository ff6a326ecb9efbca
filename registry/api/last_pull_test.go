package api

import (
	"errors"
	"testing"
	"time"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/storage/catalog"
)

// Who pulled an artifact is told to those who may read the log of its project. When that was is told
// to everybody who may see the artifact.
func TestWhoLearnsWhoPulled(t *testing.T) {
	r := open(t)
	r.wants(201, "admin", "POST", root+"/projects", `{"project_name":"prod","metadata":{"public":"true"}}`)
	repo := registry.Repo{Project: "prod", Name: "web"}
	d, other := r.artifact(repo, "v1"), r.artifact(repo, "v2")
	for name, role := range map[string]access.Role{"outsider": "", "limited": access.LimitedGuest, "guest": access.Guest, "developer": access.Developer} {
		r.must(r.access.AddUser(t.Context(), "test", access.NewUser{Name: name, Password: password}))
		if role != "" {
			r.must(r.access.SetMember(t.Context(), "test", catalog.Member{Project: "prod", Name: name, Role: string(role)}))
		}
	}
	puller := r.robot("prod", "ci", "pull").FullName()
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	r.must(r.db.Update(t.Context(), func(tx *catalog.Tx) error {
		_, err1 := tx.PutLastPull(repo, registry.Digest(d), catalog.LastPull{At: at, By: puller})
		_, err2 := tx.PutLastPull(repo, registry.Digest(other), catalog.LastPull{At: at})
		return errors.Join(err1, err2)
	}))
	const artifacts = root + "/projects/prod/repositories/web/artifacts"
	for who, knows := range map[string]bool{"": false, "outsider": false, "limited": false, puller: false, "guest": true, "developer": true, "admin": true} {
		for tag, by := range map[string]string{"v1": puller, "v2": ""} {
			all := []map[string]any{r.wants(200, who, "GET", artifacts+"/"+tag, "").object(t)}
			for _, one := range r.wants(200, who, "GET", artifacts+"?q=tags="+tag, "").list(t) {
				all = append(all, one.(map[string]any))
			}
			for _, a := range all {
				got, told := a["pull_username"]
				if a["pull_time"] != "2026-05-01T12:00:00Z" && a["pull_time"] != "2026-05-01T12:00:00.000Z" || told != knows || told && got != by {
					t.Errorf("%q learns that %s was pulled at %v by %v, want who it was: %t", who, tag, a["pull_time"], got, knows)
				}
			}
			if len(all) != 2 {
				t.Errorf("%q gets %d artifacts", who, len(all))
			}
		}
	}
}
