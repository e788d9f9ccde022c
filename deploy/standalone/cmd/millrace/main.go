// Command millrace is Millrace: all of it on one machine, or one of its services in a cluster, and the operator's tool.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/millrace/millrace/deploy/standalone/cli"
	"github.com/millrace/millrace/deploy/standalone/engines/clickhouse"
)

// version is set by the linker.
var version = "development"

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) > 0 && args[0] == clickhouse.ChildCommand {
		if err := clickhouse.RunChild(args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := cli.New(version, os.Stdout, os.Stderr).ExecuteContext(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, "millrace:", err)
		return 1
	}
	return 0
}
