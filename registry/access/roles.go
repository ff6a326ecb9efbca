package access

// numbers are how Harbor's API has roles. They are in scripts and in states of Terraform, and so
// they are what they are.
var numbers = map[Role]int{
	ProjectAdmin: 1,
	Developer:    2,
	Guest:        3,
	Maintainer:   4,
	LimitedGuest: 5,
}

// RoleNumber is the number of a role in Harbor's API; 0 for what is none.
func RoleNumber(role Role) int { return numbers[role] }

// RoleByNumber returns the role of a number in Harbor's API.
func RoleByNumber(n int) (Role, error) {
	for role, number := range numbers {
		if number == n {
			return role, nil
		}
	}
	return "", invalid("%d is no role: take 1 (projectAdmin), 2 (developer), 3 (guest), 4 (maintainer) or 5 (limitedGuest)", n)
}
