package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/millrace/millrace/deploy/standalone/app"
	"github.com/millrace/millrace/deploy/standalone/config"
)

// operator sends an operator's commands to a running Millrace: by the socket in the data folder, or to a server.
type operator struct {
	command *Command
	server  string
	token   string
	asJSON  bool
}

func (c *Command) operator(cmd *cobra.Command) *operator {
	o := &operator{command: c}
	flags := cmd.PersistentFlags()
	flags.StringVar(&o.server, "server", "", "URL of a Millrace elsewhere; default: the one whose data folder this is")
	flags.StringVar(&o.token, "token", "", "operator's token for --server; default: $"+config.TokenVariable)
	flags.BoolVar(&o.asJSON, "json", false, "print the answer as JSON")
	return o
}

// client gives an HTTP client and the URL in front of paths.
func (o *operator) client() (*http.Client, string, error) {
	if o.server != "" {
		if err := checkURL(o.server); err != nil {
			return nil, "", fmt.Errorf("--server: %w", err)
		}
		return http.DefaultClient, strings.TrimSuffix(o.server, "/"), nil
	}
	settings, err := o.command.load()
	if err != nil {
		return nil, "", err
	}
	socket := filepath.Join(settings.Data, app.SocketName)
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, unreachable(socket, err)
			}
			return conn, nil
		},
	}}
	return client, "http://millrace", nil
}

// unreachable says what to do when the operator's socket cannot be opened.
func unreachable(socket string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("the data folder of %s is another user's: run this command as its owner, or use --server with an operator's token: %w", socket, err)
	}
	return fmt.Errorf("no Millrace answers at %s: start it, set MILLRACE_DATA to its data folder, or use --server: %w", socket, err)
}

// call sends a command and gives the answer's body; what is refused is an error with the reason.
func (o *operator) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	response, err := o.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 64<<20))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return answer, refusal(response.StatusCode, answer)
}

func (o *operator) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	client, base, err := o.client()
	if err != nil {
		return nil, err
	}
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the command: %w", err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		return nil, fmt.Errorf("prepare the command: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token := o.bearer(); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("send the command: %w", err)
	}
	return response, nil
}

func (o *operator) bearer() string {
	if o.token != "" || o.server == "" {
		return o.token
	}
	return os.Getenv(config.TokenVariable)
}

func refusal(status int, answer []byte) error {
	if status < http.StatusBadRequest {
		return nil
	}
	var failure struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(answer, &failure) != nil || failure.Error == "" {
		return fmt.Errorf("refused with status %d", status)
	}
	return errors.New(failure.Error)
}

// post sends a command and prints its answer.
func (o *operator) post(cmd *cobra.Command, path string, body any) error {
	return o.show(cmd.Context(), http.MethodPost, path, body)
}

func (o *operator) show(ctx context.Context, method, path string, body any) error {
	answer, err := o.call(ctx, method, path, body)
	if err != nil {
		return err
	}
	if o.asJSON {
		_, err := fmt.Fprintln(o.command.out, strings.TrimSpace(string(answer)))
		return err
	}
	return printReadable(o.command.out, answer)
}

// printReadable prints the members of a JSON object line by line, in their order.
func printReadable(out io.Writer, answer []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber()
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		_, err := out.Write(answer)
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		var value any
		if err := decoder.Decode(&value); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if _, err := fmt.Fprintf(out, "%-14v %v\n", name, value); err != nil {
			return err
		}
	}
	return nil
}
