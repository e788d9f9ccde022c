package testflinger

import (
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/millrace/millrace/processor/access"
	"github.com/millrace/millrace/processor/testflinger"
	"github.com/millrace/millrace/schemas/route"
)

// say answers with a bare text.
func say(c *gin.Context, status int, text string) {
	access.TestflingerText(c, status, text)
}

// done is the answer to a write that has nothing else to say.
func done(c *gin.Context) { say(c, http.StatusOK, "OK") }

// refuse answers with what is wrong: in the words of the contract where a body does not fit, or a client may not.
func refuse(c *gin.Context, err error) {
	invalid, refusal := (*testflinger.InvalidError)(nil), (*testflinger.Refusal)(nil)
	switch {
	case errors.As(err, &invalid):
		access.TestflingerJSON(c, http.StatusUnprocessableEntity, access.TestflingerError{
			Detail: map[string]any{"json": invalid.Faults}, Message: "Validation error",
		})
	case errors.As(err, &refusal):
		route.Refuse(c, route.Errorf(refusal.Status, "%s", refusal.Message))
	case errors.Is(err, testflinger.ErrNotJSON):
		route.Refuse(c, route.Errorf(http.StatusBadRequest, "Bad Request")) // as the contract has it (1)
	default:
		route.Refuse(c, err)
	}
}

func bad(status int, format string, args ...any) error { return route.Errorf(status, format, args...) }

// errBadID is the refusal of an id that is no UUID.
func errBadID() error { return bad(http.StatusBadRequest, testflinger.InvalidJobID) }

// jobID reads the job's id in the path.
func jobID(c *gin.Context) (string, error) {
	id := c.Param(jobParam)
	if !testflinger.IsJobID(id) {
		return "", errBadID()
	}
	return id, nil
}

// body reads a body and its type.
func body(c *gin.Context) (contentType string, content []byte, err error) {
	content, err = route.ReadBody(c)
	return c.GetHeader("Content-Type"), content, err
}

// read reads a body by a reader of the package testflinger.
func read[T any](c *gin.Context, reader func(contentType string, body []byte) (T, error)) (T, error) {
	var none T
	contentType, content, err := body(c)
	if err != nil {
		return none, err
	}
	return reader(contentType, content)
}

// of binds a reader to the generation that is served.
func of[T any](t *Testflinger, reader func(g testflinger.Generation, contentType string, body []byte) (T, error)) func(string, []byte) (T, error) {
	return func(contentType string, body []byte) (T, error) {
		return reader(t.config.Generation, contentType, body)
	}
}
