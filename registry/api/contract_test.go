package api

import (
	"fmt"
	"net/http"
	"os"
	"sync"
	"testing"

	"roadstead/registry/registrytest"
)

// TestMain holds whatever the tests of this room ask an API, and what it answers, to its document.
func TestMain(m *testing.M) {
	contract, err := registrytest.ReadContract(document)
	if err != nil {
		fmt.Println("openapi.yaml:", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	breaches := 0
	http.DefaultClient = &http.Client{Transport: contract.Transport(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		breaches++
		fmt.Println("not as openapi.yaml says:", err)
	})}
	code := m.Run()
	if breaches > 0 {
		code = 1
	}
	os.Exit(code)
}
