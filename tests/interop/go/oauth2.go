package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// clientCredentials tries golang.org/x/oauth2/clientcredentials, as its documentation uses it.
func clientCredentials() {
	id, secret := register()
	life("client_secret_basic", configure(id, secret, oauth2.AuthStyleInHeader))
	life("client_secret_post", configure(id, secret, oauth2.AuthStyleInParams))
	life("client_secret_basic or client_secret_post, as it finds out", configure(id, secret, oauth2.AuthStyleAutoDetect))
	refusals(configure(id, secret, oauth2.AuthStyleInHeader), configure(id, "wrong", oauth2.AuthStyleInHeader))
}

func configure(id, secret string, style oauth2.AuthStyle) clientcredentials.Config {
	return clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: issuer + "/token", AuthStyle: style}
}

// life is that of a token, by one way of client authentication.
func life(label string, config clientcredentials.Config) {
	check(label+": a token is granted", func() error {
		token, err := config.Token(context.Background())
		if err != nil {
			return err
		}
		return equal(token.Type()+" "+token.Extra("scope").(string), "Bearer posts:read posts:write")
	})
	check(label+": the API takes it", func() error {
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

// refused expects the library's own error with the RFC's word in its body.
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
