package testflinger

import (
	"maps"
	"slices"
	"strings"
)

// kind is a kind of device, by what it is provisioned with.
type kind struct {
	object

	// oneOf are members of which at least one has to be there.
	oneOf []string
}

// kinds are the kinds of devices (3), in the order in which they are tried. None has a member that the contract gives only
// to others. Members that it gives to none are passed along to the agent, as in the rest of a job (11); so are, in Seed,
// those by which control hosts are told what to do: they had other names.
func kinds(g Generation) []kind {
	whole := text(maxText)
	url, files := member{name: "url", check: whole}, member{name: "attachments", check: attachments()}
	of := func(members ...member) kind { return kind{object: object{members: members}} }
	image := of(url, files, member{name: "use_attachment", check: whole}, member{name: "media", check: oneOf("sd", "usb")},
		member{name: "create_user", check: boolean}, member{name: "boot_check_url", check: whole})
	image.oneOf = []string{"url", "use_attachment"}
	list := []kind{
		of(member{name: "url", check: whole, required: true}),
		of(member{name: "distro", check: whole}, member{name: "kernel", check: whole}, member{name: "user_data", check: whole},
			member{name: "disks", check: listOf(free, 0, maxItems)}),
		of(member{name: "jobs", check: listOf(free, 1, maxItems), required: true}),
		image,
		of(member{name: "skip", check: boolean}),
		of(url, files, member{name: "token_file", check: whole}, member{name: "user_data", check: whole},
			member{name: "redeploy_cfg", check: whole}, member{name: "authorized_keys", check: whole}),
	}
	if g == Latest {
		installed, controlled := &list[1], &list[len(list)-1]
		installed.members = append(installed.members, member{name: "ephemeral", check: boolean})
		controlled.members = append(controlled.members, member{name: "urls", check: listOf(whole, 0, maxItems)}, member{name: "preset", check: whole},
			member{name: "preset_kwargs", check: free}, member{name: "provision_plan", check: free},
			member{name: "robot_tasks", check: listOf(whole, 0, maxItems)})
	}
	for i := range list {
		list[i].refuse(list)
	}
	return list
}

// refuse lets a kind refuse the members that only others have.
func (k *kind) refuse(all []kind) {
	for i := range all {
		for _, m := range all[i].members {
			if !k.has(m.name) {
				k.refused = append(k.refused, m.name)
			}
		}
	}
}

// fit looks whether provision data is for a device of this kind. Of what does not fit, a member of another kind counts double.
func (k *kind) fit(given map[string]any) (stored any, faults Faults, distance int) {
	stored, fault := k.check(maps.Clone(given))
	faults, _ = fault.(Faults)
	if len(k.oneOf) > 0 && !slices.ContainsFunc(k.oneOf, func(name string) bool { return given[name] != nil }) {
		if faults == nil {
			faults = Faults{}
		}
		faults[strings.Join(k.oneOf, " or ")] = []string{missing}
	}
	for name := range faults {
		if distance++; slices.Contains(k.refused, name) {
			distance++
		}
	}
	return stored, faults, distance
}

// device takes what an agent needs to provision a device: the first kind that it fits counts.
func device(g Generation) check {
	return func(value any) (any, any) {
		given, ok := value.(map[string]any)
		if !ok {
			return value, Faults{wholeObject: []string{notObject}}
		}
		var nearest Faults
		least := 0
		for _, k := range kinds(g) {
			stored, faults, distance := k.fit(given)
			if len(faults) == 0 {
				return stored, nil
			}
			if nearest == nil || distance < least {
				nearest, least = faults, distance
			}
		}
		names := strings.Join(slices.Sorted(maps.Keys(nearest)), ", ")
		return value, Faults{wholeObject: []string{"No kind of device has such provision data: look at " + names + "."}}
	}
}
