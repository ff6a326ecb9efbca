package registrytest

import (
	"net/http"
	"strings"
	"testing"
)

const smallDocument = `
openapi: 3.0.3
info: {title: small, version: "1"}
paths:
  /api/things/{id}:
    put:
      parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
      requestBody: {required: true, content: {application/json: {schema: {type: object, required: [name], properties: {name: {type: string}}}}}}
      responses:
        "200": {description: Done., content: {application/json: {schema: {type: object, required: [id], properties: {id: {type: integer}}}}}}
        "404": {description: There is none.}
`

func TestContract(t *testing.T) {
	c := NewContract(t, []byte(smallDocument))
	for _, row := range []struct {
		name, path, sent string
		status           int
		answer, want     string
	}{
		{"as it says", "/api/things/7", `{"name":"a","more":1}`, 200, `{"id":7}`, ""},
		{"what is forbidden is refused", "/api/things/x", `{}`, 404, ``, ""},
		{"what is forbidden is done", "/api/things/7", `{}`, 200, `{"id":7}`, "forbids the request"},
		{"another status", "/api/things/7", `{"name":"a"}`, 202, ``, "does not have this status"},
		{"a property more", "/api/things/7", `{"name":"a"}`, 200, `{"id":7,"secret":1}`, "secret"},
		{"a property less", "/api/things/7", `{"name":"a"}`, 200, `{}`, "id"},
		{"another type", "/api/things/7", `{"name":"a"}`, 200, `{"id":"7"}`, "integer"},
		{"another call", "/api/others", `{}`, 200, `{}`, "is in no document"},
		{"no such call", "/api/others", `{}`, 404, `{}`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := http.NewRequest("PUT", row.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			err = c.Check(r, []byte(row.sent), row.status, http.Header{"Content-Type": {"application/json"}}, []byte(row.answer))
			if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
	if got := c.Seen("PUT /api/things/{id}"); len(got) != 7 {
		t.Errorf("seen %v", got)
	}
}
