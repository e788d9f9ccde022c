package cli

import "github.com/spf13/cobra"

func debciCommand(o *operator) *cobra.Command {
	key := &cobra.Command{Use: "key", Short: "Keys of debci users"}
	key.AddCommand(debciKeyAdd(o), debciKeyRevoke(o))
	debci := &cobra.Command{Use: "debci", Short: "Users of the debci API"}
	debci.AddCommand(key)
	return debci
}

func debciKeyAdd(o *operator) *cobra.Command {
	body := struct {
		User string `json:"user"`
		Key  string `json:"key,omitempty"`
	}{}
	add := &cobra.Command{
		Use: "add USER", Short: "Give a user one more key and print it once", Args: arguments("USER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body.User = args[0]
			return o.post(cmd, adminPath+"/debci/keys", body)
		},
	}
	add.Flags().StringVar(&body.Key, "key", "", "the key; default: a random one")
	return add
}

func debciKeyRevoke(o *operator) *cobra.Command {
	body := struct {
		User string `json:"user"`
		Key  string `json:"key,omitempty"`
		All  bool   `json:"all,omitempty"`
	}{}
	revoke := &cobra.Command{
		Use: "revoke USER (--key K | --all)", Short: "End one key of a user, or all", Args: arguments("USER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body.User = args[0]
			return o.post(cmd, adminPath+"/debci/keys/revoke", body)
		},
	}
	revoke.Flags().StringVar(&body.Key, "key", "", "the key to end")
	revoke.Flags().BoolVar(&body.All, "all", false, "end all keys of the user")
	revoke.MarkFlagsMutuallyExclusive("key", "all")
	revoke.MarkFlagsOneRequired("key", "all")
	return revoke
}
