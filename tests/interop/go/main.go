// golang.org/x/oauth2/clientcredentials, used like in its documentation.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

var (
	issuer   = os.Getenv("GATE_ISSUER")
	audience = os.Getenv("GATE_AUDIENCE")
)

func main() {
	id, secret := register()
	life("client_secret_basic", configure(id, secret, oauth2.AuthStyleInHeader))
	life("client_secret_post", configure(id, secret, oauth2.AuthStyleInParams))
	life("client_secret_basic or client_secret_post, as it finds out", configure(id, secret, oauth2.AuthStyleAutoDetect))
	refusals(configure(id, secret, oauth2.AuthStyleInHeader), configure(id, "wrong", oauth2.AuthStyleInHeader))
}

func configure(id, secret string, style oauth2.AuthStyle) clientcredentials.Config {
	return clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: issuer + "/token", AuthStyle: style}
}

// life checks the life of a token with one method of client authentication.
func life(label string, config clientcredentials.Config) {
	check(label+": a token is granted", func() error {
		token, err := config.Token(context.Background())
		if err != nil {
			return err
		}
		return equal(token.Type()+" "+token.Extra("scope").(string), "Bearer posts:read posts:write")
	})
	check(label+": the API accepts it", func() error {
		answer, err := config.Client(context.Background()).Get(issuer + "/v1/test")
		if err != nil {
			return err
		}
		return equal(answer.Status, "200 OK")
	})
	check(label+": a token for another audience", func() error {
		config.EndpointParams = url.Values{"resource": {issuer, audience}}
		answer, err := config.Client(context.Background()).Get(issuer + "/v1/test")
		if err != nil {
			return err
		}
		var claims struct{ Aud []string }
		if err := json.NewDecoder(answer.Body).Decode(&claims); err != nil {
			return err
		}
		return equal(strings.Join(claims.Aud, " "), issuer+" "+audience)
	})
}

func refusals(config, impostor clientcredentials.Config) {
	refused("a wrong client secret", "invalid_client", impostor)
	config.Scopes = []string{"no:such"}
	refused("an unknown scope", "invalid_scope", config)
	config.Scopes = nil
	config.EndpointParams = url.Values{"resource": {"https://no.such.example"}}
	refused("an unknown resource", "invalid_target", config)
}

// refused expects the library's own error with the error code of the RFC in its body.
func refused(name, word string, config clientcredentials.Config) {
	check(name+" is "+word, func() error {
		token, err := config.Token(context.Background())
		refusal, ok := err.(*oauth2.RetrieveError)
		if !ok {
			return fmt.Errorf("%v, %v", token, err)
		}
		var body struct{ Error string }
		if err := json.Unmarshal(refusal.Body, &body); err != nil {
			return err
		}
		return equal(body.Error, word)
	})
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
