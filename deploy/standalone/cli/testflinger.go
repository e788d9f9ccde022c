package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

func testflingerCommand(o *operator) *cobra.Command {
	client := &cobra.Command{Use: "client", Short: "Clients of the Testflinger API"}
	client.AddCommand(testflingerClientSet(o))
	queue := &cobra.Command{Use: "restricted-queue", Short: "Queues that only their owners may submit to"}
	queue.AddCommand(&cobra.Command{
		Use: "add NAME", Short: "Restrict a queue to the clients whose allowed queues name it", Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.post(cmd, adminPath+"/testflinger/restricted-queues", map[string]any{"name": args[0]})
		},
	})
	testflinger := &cobra.Command{Use: "testflinger", Short: "Clients and queues of the Testflinger API"}
	testflinger.AddCommand(client, queue)
	return testflinger
}

func testflingerClientSet(o *operator) *cobra.Command {
	var secret, role, email string
	var queues []string
	var priority, reservation map[string]int64
	set := &cobra.Command{
		Use: "set ID --secret S", Short: "Make or change a client; what is not given stays as it is", Args: arguments("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"id": args[0]}
			for name, value := range map[string]any{
				"secret": secret, "role": role, "email": email, "max-priority": priority, "allowed-queues": queues, "max-reservation": reservation,
			} {
				if cmd.Flags().Changed(name) {
					body[strings.ReplaceAll(name, "-", "_")] = value
				}
			}
			return o.post(cmd, adminPath+"/testflinger/clients", body)
		},
	}
	flags := set.Flags()
	flags.StringVar(&secret, "secret", "", "the client's secret; a new client needs it")
	flags.StringVar(&role, "role", "", "admin, manager, contributor, agent or user; default of a new client: contributor")
	flags.StringToInt64Var(&priority, "max-priority", nil, "highest priority of its jobs, QUEUE=N,…; * for all queues")
	flags.StringSliceVar(&queues, "allowed-queues", nil, "restricted queues that it may submit to")
	flags.StringToInt64Var(&reservation, "max-reservation", nil, "longest reservation, QUEUE=SECONDS,…; * for all queues")
	flags.StringVar(&email, "email", "", "e-mail address")
	return set
}
