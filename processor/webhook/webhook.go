// Package webhook calls addresses that other people chose: receivers of deliveries, and whoever follows a job.
//
// A call may reach public addresses and what the operator allows besides, so that nobody can have Millrace talk to its own
// network. The rule is applied to the address that a connection is made to: a name that leads elsewhere at the second
// look does not get around it.
package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// Errors of calls, found with errors.Is.
var (
	// ErrRefused: the address may not be called.
	ErrRefused = errors.New("address is not allowed")
	// ErrTimeout: no answer came in time.
	ErrTimeout = errors.New("no answer in time")
	// ErrTooLong: the answer was longer than it may be.
	ErrTooLong = errors.New("answer is too long")
)

// Config says what a client may do.
type Config struct {
	Allowed Allowed
	// Timeout bounds a call with all that belongs to it.
	Timeout time.Duration
	// AnswerBytes bounds the body of an answer; 0 when only its status counts.
	AnswerBytes int64
	// Redirects is how many redirects that keep method and body (307, 308) are followed; others are answers.
	Redirects int
}

// Client makes calls. It is safe for concurrent use.
type Client struct {
	config Config
	http   *http.Client
}

// New gives a client. It uses no proxy of the environment's: one would reach what the client must not.
func New(config Config) *Client {
	plain := &net.Dialer{Timeout: config.Timeout}
	guarded := &net.Dialer{Timeout: config.Timeout, Control: config.Allowed.control}
	return &Client{config: config, http: &http.Client{
		CheckRedirect: config.follow,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if host, _, err := net.SplitHostPort(address); err == nil && config.Allowed.host(host) {
					return plain.DialContext(ctx, network, address)
				}
				return guarded.DialContext(ctx, network, address)
			},
			DisableCompression:     true, // an answer's length is bounded as it is sent
			MaxResponseHeaderBytes: 32 << 10,
			MaxIdleConnsPerHost:    8,
			MaxConnsPerHost:        64,
			IdleConnTimeout:        30 * time.Second,
			TLSHandshakeTimeout:    config.Timeout,
		},
	}}
}

// control looks at the address of a connection, which names have been resolved to.
func (a Allowed) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q", ErrRefused, address)
	}
	if !a.address(to.Addr()) {
		return fmt.Errorf("%w: %s is not a public one (webhooks.allow_private)", ErrRefused, to.Addr())
	}
	return nil
}

func (c *Config) follow(next *http.Request, via []*http.Request) error {
	status := next.Response.StatusCode
	if len(via) > c.Redirects || status != http.StatusTemporaryRedirect && status != http.StatusPermanentRedirect {
		return http.ErrUseLastResponse
	}
	return Check(next.URL)
}

// Check tells whether an address is one that a client would try, as far as that can be told without resolving its name.
func (c *Client) Check(target *url.URL) error {
	if err := Check(target); err != nil {
		return err
	}
	address, err := netip.ParseAddr(target.Hostname())
	if err == nil && !c.config.Allowed.address(address) && !c.config.Allowed.host(target.Hostname()) {
		return fmt.Errorf("%w: %s is not a public one (webhooks.allow_private)", ErrRefused, address)
	}
	return nil
}

// Check tells whether an address has the form of one that can be called.
func Check(target *url.URL) error {
	switch {
	case target.Scheme != "http" && target.Scheme != "https":
		return fmt.Errorf("%w: its scheme must be http or https", ErrRefused)
	case target.Hostname() == "":
		return fmt.Errorf("%w: it names no host", ErrRefused)
	}
	return nil
}

// Answer is what came back.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// Call sends a body and gives the answer, whatever its status is.
func (c *Client) Call(ctx context.Context, method, target string, header http.Header, body []byte) (*Answer, error) {
	ctx, stop := context.WithTimeout(ctx, c.config.Timeout)
	defer stop()
	answer, err := c.call(ctx, method, target, header, body)
	var slow net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout() {
		return nil, fmt.Errorf("%w: %s", ErrTimeout, c.config.Timeout)
	}
	return answer, err
}

func (c *Client) call(ctx context.Context, method, target string, header http.Header, body []byte) (*Answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, plain(err))
	}
	if err := Check(request.URL); err != nil {
		return nil, err
	}
	request.Header = header.Clone()
	response, err := c.http.Do(request)
	if err != nil {
		return nil, plain(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode < 200 || response.StatusCode > 599 { // who passes it on could not: 101 ends HTTP, 99 is no status
		return nil, fmt.Errorf("it answers %d, which ends no call", response.StatusCode)
	}
	answer := &Answer{Status: response.StatusCode, ContentType: response.Header.Get("Content-Type")}
	if c.config.AnswerBytes == 0 {
		return answer, nil
	}
	answer.Body, err = io.ReadAll(io.LimitReader(response.Body, c.config.AnswerBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case int64(len(answer.Body)) > c.config.AnswerBytes:
		return nil, fmt.Errorf("%w: over %d bytes", ErrTooLong, c.config.AnswerBytes)
	}
	return answer, nil
}

// plain leaves the address out of an error: it may hold a secret.
func plain(err error) error {
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }
