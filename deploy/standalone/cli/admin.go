package cli

import "github.com/spf13/cobra"

const adminPath = "/millrace/v1/admin"

func (c *Command) admin() *cobra.Command {
	admin := &cobra.Command{Use: "admin", Short: "Change a running Millrace, save it and bring it back"}
	o := c.operator(admin)
	admin.AddCommand(farmCommand(o), debciCommand(o), testflingerCommand(o), tokenCommand(o), userCommand(o), c.backup(), c.restore())
	return admin
}

func farmCommand(o *operator) *cobra.Command {
	farm := &cobra.Command{Use: "pgperffarm", Short: "Users and machines of the PostgreSQL Performance Farm"}
	farm.AddCommand(farmUserCommand(o), farmMachineCommand(o))
	return farm
}

func farmUserCommand(o *operator) *cobra.Command {
	var staff bool
	var email string
	set := &cobra.Command{
		Use: "set NAME", Short: "Make or change a user", Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"name": args[0]}
			if cmd.Flags().Changed("staff") {
				body["staff"] = staff
			}
			if email != "" {
				body["email"] = email
			}
			return o.post(cmd, adminPath+"/pgperffarm/users", body)
		},
	}
	set.Flags().BoolVar(&staff, "staff", false, "may approve machines (--staff=false takes it away)")
	set.Flags().StringVar(&email, "email", "", "primary e-mail address")
	user := &cobra.Command{Use: "user", Short: "Community users"}
	user.AddCommand(set)
	return user
}

func farmMachineCommand(o *operator) *cobra.Command {
	machine := &cobra.Command{Use: "machine", Short: "Registered machines"}
	machine.AddCommand(
		farmMachineAdd(o), farmMachineRotate(o),
		machineAction(o, "revoke", "End a machine's secret"),
		machineAction(o, "approve", "Let a machine upload"),
	)
	return machine
}

func farmMachineAdd(o *operator) *cobra.Command {
	body := struct {
		Alias       string `json:"alias"`
		Owner       string `json:"owner"`
		Description string `json:"description,omitempty"`
		Approved    bool   `json:"approved,omitempty"`
		Secret      string `json:"secret,omitempty"`
	}{}
	add := &cobra.Command{
		Use: "add ALIAS --owner NAME", Short: "Register a machine and print its secret once", Args: arguments("ALIAS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body.Alias = args[0]
			return o.post(cmd, adminPath+"/pgperffarm/machines", body)
		},
	}
	add.Flags().StringVar(&body.Owner, "owner", "", "community user name of the owner")
	add.Flags().StringVar(&body.Description, "description", "", "what the machine is")
	add.Flags().BoolVar(&body.Approved, "approved", false, "let it upload at once")
	add.Flags().StringVar(&body.Secret, "secret", "", "its secret; default: a random one")
	must(add.MarkFlagRequired("owner"))
	return add
}

func farmMachineRotate(o *operator) *cobra.Command {
	var secret string
	rotate := &cobra.Command{
		Use: "rotate ALIAS", Short: "Give a machine another secret and print it once", Args: arguments("ALIAS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body := map[string]any{"alias": args[0]}
			if secret != "" {
				body["secret"] = secret
			}
			return o.post(cmd, adminPath+"/pgperffarm/machines/rotate", body)
		},
	}
	rotate.Flags().StringVar(&secret, "secret", "", "its secret; default: a random one")
	return rotate
}

func machineAction(o *operator, action, short string) *cobra.Command {
	return &cobra.Command{
		Use: action + " ALIAS", Short: short, Args: arguments("ALIAS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.post(cmd, adminPath+"/pgperffarm/machines/"+action, map[string]any{"alias": args[0]})
		},
	}
}

func tokenCommand(o *operator) *cobra.Command {
	var role string
	add := &cobra.Command{
		Use: "add NAME --role ROLE", Short: "Give out a token for /millrace/v1 and print it once", Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.post(cmd, adminPath+"/tokens", map[string]any{"name": args[0], "role": role})
		},
	}
	add.Flags().StringVar(&role, "role", "", "viewer, writer or operator")
	must(add.MarkFlagRequired("role"))
	token := &cobra.Command{Use: "token", Short: "Tokens for /millrace/v1"}
	token.AddCommand(add, &cobra.Command{
		Use: "revoke NAME", Short: "End a token", Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.post(cmd, adminPath+"/tokens/revoke", map[string]any{"name": args[0]})
		},
	})
	return token
}

func userCommand(o *operator) *cobra.Command {
	user := &cobra.Command{Use: "user", Short: "People"}
	user.AddCommand(&cobra.Command{
		Use: "erase NAME", Short: "Erase a user's personal data for good", Args: arguments("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.post(cmd, adminPath+"/users/erase", map[string]any{"name": args[0]})
		},
	})
	return user
}

// must is for what only a slip in this package can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
