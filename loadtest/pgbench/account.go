package pgbench

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// account is the user that the server and pgbench run as.
type account struct {
	uid, gid uint32
}

// serverAccount returns nil when the current user will do. PostgreSQL refuses to run as root, so root uses the account
// that Debian's package makes.
func serverAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	found, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root, and there is no user postgres to run it as (%w): "+
			"start this as another user", err)
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres has the id %q: %w", found.Uid, err)
	}
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user postgres has the group %q: %w", found.Gid, err)
	}
	return &account{uid: uint32(uid), gid: uint32(gid)}, nil
}
