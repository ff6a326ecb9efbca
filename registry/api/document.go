package api

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"gopkg.in/yaml.v3"
)

// document says in OpenAPI 3.0 which calls there are and what is in them. Tests hold the calls to it.
//
//go:embed openapi.yaml
var document []byte

// documentJSON is the same for whoever reads no YAML.
var documentJSON = sync.OnceValues(func() ([]byte, error) {
	var tree any
	if err := yaml.Unmarshal(document, &tree); err != nil {
		return nil, fmt.Errorf("openapi.yaml: %w", err)
	}
	return json.Marshal(tree)
})

func (c *call) readDocument() error { return c.document("application/yaml", document) }

func (c *call) readDocumentJSON() error {
	text, err := documentJSON()
	if err != nil {
		return err
	}
	return c.document("application/json", text)
}

// document answers with the document. It is as public as the program is.
func (c *call) document(mediaType string, text []byte) error {
	h := c.w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = c.w.Write(text) // the client may be gone
	return nil
}
