package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-oidc"
)

// verifier lets go-oidc verify access tokens: discovery, and then offline with the published keys.
func verifier() {
	id, secret := register()
	config := configure(id, secret, 0)
	token, err := config.Token(context.Background())
	if err != nil {
		panic(err)
	}
	provider, err := oidc.NewProvider(context.Background(), issuer)
	check("the metadata is accepted", func() error { return err })
	if err != nil {
		return
	}
	check("the metadata names the algorithms of tokens", func() error {
		var metadata struct {
			Algorithms []string `json:"id_token_signing_alg_values_supported"`
		}
		if err := provider.Claims(&metadata); err != nil {
			return err
		}
		return equal(strings.Join(metadata.Algorithms, " "), algorithm)
	})

	verify := func(token, audience string, now time.Time) error {
		algorithms := []string{algorithm}
		clock := func() time.Time { return now }
		checked := oidc.Config{ClientID: audience, SupportedSigningAlgs: algorithms, Now: clock}
		verified, err := provider.Verifier(&checked).Verify(context.Background(), token)
		if err != nil {
			return err
		}
		return equal(verified.Subject, id)
	}
	refused := func(name, because, token, audience string, now time.Time) {
		check(name, func() error {
			err := verify(token, audience, now)
			if err == nil || !strings.Contains(err.Error(), because) {
				return fmt.Errorf("%v, expected %q", err, because)
			}
			return nil
		})
	}
	now := time.Now()
	if algorithm == "HS256" {
		refused("nothing verifies offline: a shared secret is never published", "failed to verify", token.AccessToken, issuer, now)
		return
	}
	check("a token verifies", func() error { return verify(token.AccessToken, issuer, now) })
	refused("a wrong audience is refused", "expected audience", token.AccessToken, audience, now)
	refused("a token is refused once it has expired", "token is expired", token.AccessToken, issuer, now.Add(time.Minute))
	another, err := config.Token(context.Background())
	if err != nil {
		panic(err)
	}
	signed, signature := strings.LastIndex(token.AccessToken, "."), strings.LastIndex(another.AccessToken, ".")
	tampered := token.AccessToken[:signed] + another.AccessToken[signature:]
	refused("a token with the signature of another one is refused", "failed to verify", tampered, issuer, now)
	refused("a user's token is refused", "expected audience", os.Getenv("GATE_USER_TOKEN"), issuer, now)
}
