package cli

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// arguments wants those that the usage line names, and no more; one in brackets may be left out.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		var missing []string
		for _, name := range names[min(len(args), len(names)):] {
			if !strings.HasPrefix(name, "[") {
				missing = append(missing, name)
			}
		}
		switch {
		case len(missing) > 0:
			return fmt.Errorf("%s is missing: %s", strings.Join(missing, " and "), cmd.UseLine())
		case len(args) > len(names):
			return fmt.Errorf("%q is one argument too many: %s", args[len(names)], cmd.UseLine())
		}
		return nil
	}
}

// refuseUnknown makes a group of commands, and those below it, refuse the name of a command that is not there. A group alone
// shows its help.
func refuseUnknown(group *cobra.Command) {
	if !group.HasSubCommands() {
		return
	}
	group.Args, group.DisableFlagsInUseLine = cobra.ArbitraryArgs, true
	group.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, below := range cmd.Commands() {
			if below.IsAvailableCommand() {
				names = append(names, below.Name())
			}
		}
		return fmt.Errorf("unknown command %q for %q: there are %s", args[0], cmd.CommandPath(), strings.Join(names, ", "))
	}
	for _, below := range group.Commands() {
		refuseUnknown(below)
	}
}

// checkURL refuses a server's address that is no URL, before anything is sent to it.
func checkURL(server string) error {
	parsed, err := url.Parse(server)
	if err == nil && (parsed.Scheme == "http" || parsed.Scheme == "https") && parsed.Host != "" {
		return nil
	}
	example := "http://127.0.0.1:8080"
	if !strings.Contains(server, "/") {
		example = "http://" + server
	}
	return fmt.Errorf("%q is no URL of a Millrace: want one such as %s", server, example)
}
