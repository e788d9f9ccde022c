package subscription

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Headers of a delivery.
const (
	// IDHeader is the same for a delivery and its repeats.
	IDHeader = "Millrace-Event-Id"
	// NameHeader names the subscription.
	NameHeader = "Millrace-Subscription"
	// SignatureHeader proves that the body comes from Millrace, and when it was sent.
	SignatureHeader = "Millrace-Signature"
)

// message is the body of a delivery: a CloudEvent in JSON.
type message struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	Data            json.RawMessage `json:"data"`
	// Position lets a read wait for what it tells of, as header Millrace-Position.
	Position string `json:"millraceposition"`
}

// Sign gives the signature of a body that is sent at a time: the time in Unix seconds, and HMAC-SHA256 under the secret over
// that time, a dot and the body.
func Sign(secret, body []byte, at time.Time) string {
	sent := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(sent + "."))
	mac.Write(body)
	return "t=" + sent + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// header is what a delivery is sent with.
func header(name, id, signature string) http.Header {
	return http.Header{
		"Content-Type": {"application/cloudevents+json"}, "User-Agent": {"millrace"},
		IDHeader: {id}, NameHeader: {name}, SignatureHeader: {signature},
	}
}
