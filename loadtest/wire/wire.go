// Package wire is an HTTP/1.1 client over one keep-alive connection that does as little as possible: on a machine that
// serves and measures at the same time, whatever the client spends is missing from the server's figures.
package wire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Conn is a connection to a server. It is not safe for concurrent use.
type Conn struct {
	tcp     net.Conn
	reader  *bufio.Reader
	timeout time.Duration
	scratch []byte
}

// Dial connects to host:port. Each request may take the given time.
func Dial(ctx context.Context, address string, timeout time.Duration) (*Conn, error) {
	tcp, err := (&net.Dialer{Timeout: timeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	return &Conn{tcp: tcp, reader: bufio.NewReaderSize(tcp, 32<<10), timeout: timeout}, nil
}

// Close ends the connection.
func (c *Conn) Close() error { return c.tcp.Close() }

// Answer is a server's answer.
type Answer struct {
	Status int
	Header http.Header
	// Body is valid until the next request.
	Body []byte
}

// maxBody bounds an answer, in bytes.
const maxBody = 256 << 20

// Do sends a request, as Head begins it, and reads the answer. After an error the connection is of no use.
func (c *Conn) Do(head, body []byte) (Answer, error) {
	if err := c.tcp.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return Answer{}, fmt.Errorf("set a deadline: %w", err)
	}
	parts := net.Buffers{head, body}
	if _, err := parts.WriteTo(c.tcp); err != nil {
		return Answer{}, fmt.Errorf("send a request: %w", err)
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return Answer{}, fmt.Errorf("read an answer: %w", err)
	}
	defer response.Body.Close()
	answer := Answer{Status: response.StatusCode, Header: response.Header}
	if answer.Body, err = c.readBody(response.Body); err != nil {
		return Answer{}, fmt.Errorf("read an answer: %w", err)
	}
	return answer, nil
}

// readBody reads into memory that the connection keeps.
func (c *Conn) readBody(body io.Reader) ([]byte, error) {
	buffer := c.scratch[:0]
	for {
		if len(buffer) == cap(buffer) {
			buffer = append(buffer, 0)[:len(buffer)]
		}
		n, err := body.Read(buffer[len(buffer):cap(buffer)])
		buffer = buffer[:len(buffer)+n]
		c.scratch = buffer
		switch {
		case err == io.EOF:
			return buffer, nil
		case err != nil:
			return nil, err
		case len(buffer) > maxBody:
			return nil, fmt.Errorf("the body is over %d bytes", maxBody)
		}
	}
}

// Head gives the first part of a request with a body of some length. Header fields are pairs of name and value.
func Head(method, host, path string, length int, fields ...string) []byte {
	head := make([]byte, 0, 256)
	head = append(head, method...)
	head = append(head, ' ')
	head = append(head, path...)
	head = append(head, " HTTP/1.1\r\nHost: "...)
	head = append(head, host...)
	head = append(head, "\r\n"...)
	if length > 0 {
		head = append(head, "Content-Length: "...)
		head = strconv.AppendInt(head, int64(length), 10)
		head = append(head, "\r\n"...)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		head = append(head, fields[i]...)
		head = append(head, ": "...)
		head = append(head, fields[i+1]...)
		head = append(head, "\r\n"...)
	}
	return append(head, "\r\n"...)
}
