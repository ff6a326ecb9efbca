package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"roadstead/registry"
	"roadstead/registry/access"
	"roadstead/registry/estate"
)

// creation is the one setting of Harbor's that can be changed here.
const creation = "project_creation_restriction"

// fixed are the settings of Harbor's that are as they are, or as the configuration file says.
func (c *call) fixed() map[string]any {
	return map[string]any{
		"auth_mode": c.mode(), "robot_name_prefix": "robot$", "robot_token_duration": robotDays, "quota_per_project_enable": true, "storage_per_project": -1,
		"self_registration": false, "read_only": false, "banner_message": "", "scanner_skip_update_pulltime": false,
	}
}

func (c *call) readConfiguration() error {
	creators, err := c.estate.Creators(c.ctx(), c.who)
	if err != nil {
		return err
	}
	type setting struct {
		Value    any  `json:"value"`
		Editable bool `json:"editable"`
	}
	answer := map[string]setting{creation: {creators.String(), !creators.Configured}}
	for name, value := range c.fixed() {
		answer[name] = setting{value, false}
	}
	return c.ok(answer)
}

// updateConfiguration changes what can be changed. Clients send all settings that they know: those
// that say what is so already are taken, as are those of what is not here and shall be off. Whoever
// wants anything else is told, and nothing is changed.
func (c *call) updateConfiguration() error {
	if err := c.estate.MayIn(c.who, registry.Update, access.Configuration, ""); err != nil {
		return err
	}
	var sent map[string]json.RawMessage
	if err := c.body(&sent); err != nil {
		return err
	}
	fixed := c.fixed()
	var others []string
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		value, known := fixed[name]
		switch text := loose(sent[name]); {
		case name == creation, text == "null":
		case known && text == fmt.Sprint(value), !known && slices.Contains([]string{"", "0", "false", "[]", "{}"}, text):
		default:
			others = append(others, registry.Clip(name))
		}
	}
	if len(others) > 0 {
		const most = 5
		if len(others) > most {
			others = append(others[:most], "…")
		}
		return invalid("%s cannot be set to that here: how people log in is in the configuration file, and %s is what can be changed by this call", strings.Join(others, ", "), creation)
	}
	word, asked := sent[creation]
	if !asked || string(word) == "null" {
		return c.done()
	}
	creators, ok := estate.ParseCreators(loose(word))
	if !ok {
		return invalid("%s is everyone or adminonly", creation)
	}
	if err := c.estate.SetCreators(c.ctx(), c.who, creators); err != nil {
		return err
	}
	return c.done()
}

// loose is a value without regard to its type: some clients write numbers as text.
func loose(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil && string(raw) != "null" {
		return text
	}
	return string(raw)
}
