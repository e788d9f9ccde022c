package testflinger

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/ingest/door"
	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/registry"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/event"
)

// secretAge is how long a secret is kept when its client does not say.
const secretAge = 365 * 24 * time.Hour

// SecretSet is the answer to a secret that was stored.
type SecretSet struct {
	ExpiresAt *string `json:"expires_at"`
}

// ownSecret reads which secret a path names, which must be the caller's own.
func (t *Testflinger) ownSecret(c *gin.Context) (client registry.Hash, path string, err error) {
	id, path := c.Param(clientParam), strings.Trim(c.Param(pathParam), "/")
	switch {
	case permission(c).ClientID != id:
		return client, path, bad(http.StatusForbidden, "Secrets of another client cannot be changed")
	case !testflinger.IsSecretPath(path):
		return client, path, &testflinger.InvalidError{Faults: testflinger.Faults{"path": []string{"String does not match expected pattern."}}}
	}
	return access.HashTestflingerClient(t.Keyring, id), path, nil
}

// setSecret answers PUT /v1/secrets/{client_id}/{path} (2, Latest).
func (t *Testflinger) setSecret(c *gin.Context) {
	expires, err := t.secretSet(c)
	if err != nil {
		refuse(c, err)
		return
	}
	answer := SecretSet{}
	if !expires.IsZero() {
		text := testflinger.FormatTime(expires)
		answer.ExpiresAt = &text
	}
	access.TestflingerJSON(c, http.StatusOK, answer)
}

func (t *Testflinger) secretSet(c *gin.Context) (expires time.Time, err error) {
	client, path, err := t.ownSecret(c)
	if err != nil {
		return expires, err
	}
	secret, err := read(c, testflinger.ReadSecret)
	if err != nil {
		return expires, err
	}
	request := &event.TestflingerSecretSetRequested{IdHash: client[:], Path: path, Once: secret.Once}
	if age := ageOf(secret); age > 0 {
		expires = t.Now().Add(age)
		request.Expires = expires.UnixMilli()
	}
	if request.SealedValue, err = access.SealForTestflinger(t.Keyring, client, secret.Value); err != nil {
		return expires, err
	}
	outcome, err := t.decideClient(c, request)
	if err == nil {
		err = refusalOf(outcome)
	}
	return expires, err
}

// ageOf is how long a secret is kept; 0: until it is deleted.
func ageOf(s *testflinger.Secret) time.Duration {
	switch {
	case s.Forever:
		return 0
	case s.Seconds > 0:
		return time.Duration(s.Seconds) * time.Second
	}
	return secretAge
}

// deleteSecret answers DELETE /v1/secrets/{client_id}/{path} (2, Latest): one that is not there is as good as deleted.
func (t *Testflinger) deleteSecret(c *gin.Context) {
	client, path, err := t.ownSecret(c)
	var outcome registry.Outcome
	if err == nil {
		outcome, err = t.decideClient(c, &event.TestflingerSecretDeleteRequested{IdHash: client[:], Path: path})
	}
	if err == nil && outcome.Result != registry.UnknownTestflingerSecret {
		err = refusalOf(outcome)
	}
	if err != nil {
		refuse(c, err)
		return
	}
	done(c)
}

// secretsAreThere makes sure that a job can be given its secrets (3, Latest).
func (t *Testflinger) secretsAreThere(ctx context.Context, job *testflinger.Job, by *testflinger.Permission) error {
	if len(job.Secrets) == 0 {
		return nil
	}
	if by == nil {
		return bad(http.StatusUnprocessableEntity, "Secrets are a client's own: sign in to use them")
	}
	client := access.HashTestflingerClient(t.Keyring, by.ClientID)
	if t.missingSecret(client, job) == "" {
		return nil
	}
	if err := t.Registry.CatchUp(ctx); err != nil {
		return door.Refusal(err)
	}
	if path := t.missingSecret(client, job); path != "" {
		return bad(http.StatusUnprocessableEntity, "There is no secret %s", path)
	}
	return nil
}

// missingSecret is the path of a secret that a job wants and its client does not have; "" when all are there.
func (t *Testflinger) missingSecret(client registry.Hash, job *testflinger.Job) (missing string) {
	t.Registry.View(func(s *registry.State) {
		for _, path := range job.Secrets {
			if _, known := s.Testflinger.Secret(client, path, 0, t.Now().UnixMilli()); !known {
				missing = path
			}
		}
	})
	return missing
}
