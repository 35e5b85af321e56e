// Go libraries against the server. The argument names the library: oauth2 or oidc.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
)

var (
	issuer    = os.Getenv("GATE_ISSUER")
	audience  = os.Getenv("GATE_AUDIENCE")
	algorithm = os.Getenv("GATE_ALGORITHM")
)

func main() {
	switch library := os.Args[1]; library {
	case "oauth2":
		clientCredentials()
	case "oidc":
		verifier()
	default:
		panic(library)
	}
}

// register registers a domain and returns its id and secret.
func register() (id, secret string) {
	domain, _ := json.Marshal(map[string]any{
		"host": fmt.Sprintf("go-%d.example.com", os.Getpid()), "type": "free",
		"scopes": []string{"posts:read", "posts:write"}, "audiences": []string{issuer, audience},
	})
	request, _ := http.NewRequest("POST", issuer+"/v1/domains", bytes.NewReader(domain))
	request.Header.Set("Authorization", "Bearer "+os.Getenv("GATE_USER_TOKEN"))
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	var body struct {
		Payload struct{ ID, ClientSecret string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || answer.StatusCode != 201 {
		panic(fmt.Sprint("registration: ", answer.Status, err))
	}
	return body.Payload.ID, body.Payload.ClientSecret
}

// check prints one line of the report. A failed check does not stop the program.
func check(name string, body func() error) {
	if err := body(); err != nil {
		fmt.Printf("FAIL %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", " | "))
	} else {
		fmt.Println("ok", name)
	}
}

func equal(actual, expected string) error {
	if actual != expected {
		return fmt.Errorf("%q, expected %q", actual, expected)
	}
	return nil
}
