package clickhouse

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// configTemplate keeps the engine small: it shares the machine with everything else. There are no system log tables, for
// they would grow without anybody looking.
const configTemplate = `<clickhouse>{logger}
	<path>{data}/</path>
	<tmp_path>{data}/tmp/</tmp_path>
	<user_files_path>{data}/user_files/</user_files_path>
	<format_schema_path>{data}/format_schemas/</format_schema_path>
	<users_config>{users}</users_config>
	<listen_host>127.0.0.1</listen_host>
	<tcp_port>{native}</tcp_port>
	<http_port>{http}</http_port>
	<max_server_memory_usage_to_ram_ratio>0.5</max_server_memory_usage_to_ram_ratio>
	<mark_cache_size>67108864</mark_cache_size>
	<index_mark_cache_size>33554432</index_mark_cache_size>
	<primary_index_cache_size>67108864</primary_index_cache_size>
	<uncompressed_cache_size>0</uncompressed_cache_size>
	<query_cache><max_size_in_bytes>0</max_size_in_bytes></query_cache>
	<background_pool_size>{merges}</background_pool_size>
	<background_common_pool_size>2</background_common_pool_size>
	<background_schedule_pool_size>8</background_schedule_pool_size>
	<background_fetches_pool_size>1</background_fetches_pool_size>
	<background_move_pool_size>1</background_move_pool_size>
	<background_buffer_flush_schedule_pool_size>1</background_buffer_flush_schedule_pool_size>
	<background_distributed_schedule_pool_size>1</background_distributed_schedule_pool_size>
	<background_message_broker_schedule_pool_size>1</background_message_broker_schedule_pool_size>
	<merge_tree>
		<number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
		<number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
		<number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
	</merge_tree>
</clickhouse>
`

// loggerTemplate is for a binary. The library takes any logger for one at trace level, and without one is silent.
const loggerTemplate = `
	<logger><level>warning</level><console>1</console></logger>`

// usersTemplate lets clients in as one user with a password. The library's own session, which opens the listeners and then
// sleeps, is always the user "default" without a password; it is given no other right, and since it is that user's one
// session, nobody can enter as "default" behind it.
const usersTemplate = `<clickhouse>
	<profiles>
		<default><async_insert>0</async_insert></default>
		<keeper><max_sessions_for_user>1</max_sessions_for_user></keeper>
	</profiles>
	<users>
		<{user}>
			<password_sha256_hex>{sha256}</password_sha256_hex>
			<networks><ip>127.0.0.1</ip></networks>
			<profile>default</profile>
			<quota>default</quota>
			<access_management>1</access_management>
		</{user}>{keeper}
	</users>
	<quotas><default/></quotas>
</clickhouse>
`

const keeperTemplate = `
		<default>
			<password></password>
			<networks><ip>127.0.0.1</ip></networks>
			<profile>keeper</profile>
			<quota>default</quota>
			<grants>
				<query>GRANT SYSTEM LISTEN ON *.*</query>
				<query>GRANT SELECT ON system.numbers</query>
			</grants>
		</default>`

func (s *Server) configPath() string { return filepath.Join(s.opts.Dir, "config.xml") }

// writeConfig writes the configuration and the users file, which only this user may read.
func (s *Server) writeConfig(native, http int) error {
	users := filepath.Join(s.opts.Dir, "users.xml")
	digest := sha256.Sum256([]byte(s.password))
	logger, keeper := loggerTemplate, ""
	if s.opts.Program.Library != "" {
		logger, keeper = "", keeperTemplate
	}
	config := strings.NewReplacer(
		"{logger}", logger, "{data}", escape(filepath.Join(s.opts.Dir, "data")), "{users}", escape(users),
		"{native}", strconv.Itoa(native), "{http}", strconv.Itoa(http), "{merges}", strconv.Itoa(mergeThreads()),
	).Replace(configTemplate)
	if err := writePrivate(s.configPath(), config); err != nil {
		return fmt.Errorf("write the engine's configuration: %w", err)
	}
	accounts := strings.NewReplacer("{user}", User, "{sha256}", hex.EncodeToString(digest[:]), "{keeper}", keeper).Replace(usersTemplate)
	if err := writePrivate(users, accounts); err != nil {
		return fmt.Errorf("write the engine's users: %w", err)
	}
	return nil
}

// mergeThreads is how many background merges may run at once: one for each core, within bounds.
func mergeThreads() int { return min(max(runtime.NumCPU(), 2), 8) }

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a strings.Builder does not fail
	return b.String()
}

// writePrivate replaces the file, also one that was there with wider permissions.
func writePrivate(path, content string) error {
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
