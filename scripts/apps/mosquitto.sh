#!/bin/bash
# mosquitto, an MQTT broker (one thread, level-triggered, OUT asked for and withdrawn all the time): every message of many
# publishers reaches each of many subscribers, once and in order; retained messages, sessions that outlive their
# connection and the broker, wills of clients that vanish.

# shellcheck disable=SC2317 # the checks are called by name
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$0")/lib.sh"
begin 120 mosquitto mosquitto_pub mosquitto_sub perl

PORT=$(free_port)
CONF=$TMP/mosquitto.conf
PUBLISHERS=5
LINES_EACH=300
# CONNECT of MQTT 3.1.1: a clean session, no name, keep-alive of a minute.
CONNECT='\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00'

write_config() {
    cat >"$CONF" <<END
listener $PORT 127.0.0.1
allow_anonymous true
max_queued_messages 0
persistence true
persistence_location $TMP/
log_dest stderr
log_type error
log_type warning
log_type notice
log_type subscribe
sys_interval 1
END
    [[ $(id -u) != 0 ]] || echo 'user root' >>"$CONF"
}

subscribe() { within 60 mosquitto_sub -h 127.0.0.1 -p "$PORT" "$@"; }

publish() { within 60 mosquitto_pub -h 127.0.0.1 -p "$PORT" "$@"; }

# How many times a topic was subscribed to so far: the broker's log says each.
subscriptions() { grep -c " [012] $1\$" "$APP_LOG" || true; }

subscriptions_are() { [[ $(subscriptions "$1") == "$2" ]]; }

# --- the checks -----------------------------------------------------------------------------------------------------

# Lines of many lengths, each telling who wrote it, and when.
make_lines() {
    local p
    for ((p = 1; p <= PUBLISHERS; p++)); do
        seq "$LINES_EACH" | awk -v p="$p" 'BEGIN { for (i = 0; i < 3000; i++) long = long "x" }
            { print "p" p "-" $1 "-" substr(long, 1, $1 * 7919 % 3000) }' >"$TMP/lines.$p"
    done
}

# everyone QOS SUBSCRIBERS: all publishers at a time; each subscriber gets the lines of each in their order.
everyone() {
    local qos=$1 count=$2 topic=all-$1 i p publishers=() subscribers=()
    for ((i = 1; i <= count; i++)); do
        subscribe -q "$qos" -t "$topic" -C $((PUBLISHERS * LINES_EACH)) >"$TMP/got.$i" &
        subscribers+=("$!")
    done
    wait_for 20 subscriptions_are "$topic" "$count"
    for ((p = 1; p <= PUBLISHERS; p++)); do
        publish -q "$qos" -t "$topic" -l <"$TMP/lines.$p" &
        publishers+=("$!")
    done
    for i in "${publishers[@]}" "${subscribers[@]}"; do wait "$i"; done
    for ((i = 1; i <= count; i++)); do
        same "messages of subscriber $i" "$(wc -l <"$TMP/got.$i")" $((PUBLISHERS * LINES_EACH))
        for ((p = 1; p <= PUBLISHERS; p++)); do
            grep "^p$p-" "$TMP/got.$i" | cmp - "$TMP/lines.$p"
        done
    done
    served $((count * PUBLISHERS * LINES_EACH))
}

big_message() {
    local i subscribers=()
    head -c 3000000 /dev/urandom >"$TMP/big"
    for i in 1 2 3; do
        subscribe -q 1 -t big -C 1 -N >"$TMP/big.$i" &
        subscribers+=("$!")
    done
    wait_for 20 subscriptions_are big 3
    publish -q 1 -t big -f "$TMP/big"
    for i in "${subscribers[@]}"; do wait "$i"; done
    for i in 1 2 3; do cmp "$TMP/big" "$TMP/big.$i"; done
    served 3
}

# A subscriber that does not read: what is for it waits in the broker, others are served meanwhile, and then it gets all.
slow_reader() {
    local slow quick
    mosquitto_sub -h 127.0.0.1 -p "$PORT" -q 1 -t slow -C 50 >"$TMP/slow" &
    slow=$!
    subscribe -q 1 -t slow -C 50 >"$TMP/quick" &
    quick=$!
    wait_for 20 subscriptions_are slow 2
    kill -STOP "$slow"
    seq 50 | awk 'BEGIN { for (i = 0; i < 100000; i++) long = long "y" } { print $1 long }' >"$TMP/long"
    publish -q 1 -t slow -l <"$TMP/long"
    wait "$quick"
    kill -CONT "$slow"
    wait_for 20 ended "$slow"
    cmp "$TMP/long" "$TMP/quick"
    cmp "$TMP/long" "$TMP/slow"
    served 100
}

retained() {
    seq 50 | while read -r i; do
        publish -q 1 -r -t "kept/$i" -m "value $i"
    done
    retained_are_there
}

retained_are_there() {
    subscribe -q 1 -t 'kept/#' -C 50 | sort >"$TMP/kept"
    seq 50 | sed 's/^/value /' | sort | cmp - "$TMP/kept"
    served 50
}

# Its client is away: what comes meanwhile is for it when it is back.
leave_session() {
    subscribe -q 1 -c -i lasting -t letters -E
    publish -q 1 -t letters -l <"$TMP/lines.1"
}

return_to_session() {
    subscribe -q 1 -c -i lasting -t letters -C "$LINES_EACH" | cmp - "$TMP/lines.1"
    served "$LINES_EACH"
}

will() {
    local observer
    subscribe -q 1 -t wills -C 5 >"$TMP/wills" &
    observer=$!
    wait_for 20 subscriptions_are wills 1
    local i pid victims=()
    for i in 1 2 3 4 5; do
        mosquitto_sub -h 127.0.0.1 -p "$PORT" -t nothing --will-topic wills --will-payload "$i is gone" --will-qos 1 &
        victims+=("$!")
    done
    wait_for 20 subscriptions_are nothing 5
    disown "${victims[@]}"
    for pid in "${victims[@]}"; do kill -KILL "$pid"; done
    wait "$observer"
    sort "$TMP/wills" | cmp - <(seq 5 | sed 's/$/ is gone/')
}

rude_clients() {
    local how
    for how in cut reset; do
        rude "$how" '' --count 50
        rude "$how" '\x10\x0c\x00\x04MQ' --count 50
        # A PUBLISH of which most is missing.
        rude "$how" "$CONNECT"'\x30\xff\x7f\x00\x03all' --count 50 --linger 0.1
    done
    # Not MQTT: closed, without a word.
    same 'answer' "$(rude half '\x10\x00' --count 10)" ''
    # A client that has closed its own direction still gets its CONNACK.
    same 'answers' "$(rude half "$CONNECT" --count 10 | od -v -An -tx1 | tr -d ' \n')" \
        "$(printf '20020000%.0s' 1 2 3 4 5 6 7 8 9 10)"
    wait_for 10 sockets_at_most "$SOCKETS" "$APP_PID"
}

CROWD_SAYS=$CONNECT
beside_crowd() {
    wait_for 10 connected_at_least 301
    # With its report about itself every second.
    quiet "$APP_PID"
    retained_are_there
}

connected_at_least() {
    [[ $(sockets "$APP_PID") -ge $1 ]]
}

# It reads its configuration again: clients without a name are refused, and then welcome.
reload() {
    sed -i 's/^allow_anonymous true/allow_anonymous false/' "$CONF"
    kill -HUP "$APP_PID"
    wait_for 10 refused
    sed -i 's/^allow_anonymous false/allow_anonymous true/' "$CONF"
    kill -HUP "$APP_PID"
    wait_for 10 publish -q 1 -t anything -m anything
    retained_are_there
}

refused() {
    local said
    said=$(publish -t anything -m anything 2>&1) || true
    [[ $said == *'not authorised'* ]]
}

# --- throughput -----------------------------------------------------------------------------------------------------

start_compared() {
    local CONF=$TMP/mosquitto.conf
    write_config
    start_app "$PORT" mosquitto -c "$CONF"
}

# From three publishers to three subscribers, each message.
messages() {
    local count=15000 i start clients=() topic=load-$RANDOM
    seq "$count" >"$TMP/lines"
    for i in 1 2 3; do
        subscribe -t "$topic" -C $((3 * count)) >/dev/null &
        clients+=("$!")
    done
    wait_for 20 subscriptions_are "$topic" 3 || return
    start=${EPOCHREALTIME/./}
    for i in 1 2 3; do
        publish -t "$topic" -l <"$TMP/lines" &
        clients+=("$!")
    done
    for i in "${clients[@]}"; do wait "$i" || return; done
    echo $((9 * count * 1000000 / (${EPOCHREALTIME/./} - start)))
}

# --- the run --------------------------------------------------------------------------------------------------------

make_lines
write_config
start_app "$PORT" mosquitto -c "$CONF"
check 'it runs under the library' under_library "$APP_PID"
SOCKETS=$(sockets "$APP_PID")
check "QoS 0: $PUBLISHERS publishers, 20 subscribers: every message, in order" everyone 0 20
check "QoS 1: $PUBLISHERS publishers, 10 subscribers: every message, in order" everyone 1 10
check "QoS 2: $PUBLISHERS publishers, 3 subscribers: every message, in order" everyone 2 3
check 'a message of 3 MB' big_message
check 'a subscriber that sleeps gets all in the end' slow_reader
check '50 retained messages' retained
check 'wills of clients that vanish' will
check 'clients that go in the middle, half-closed ones' rude_clients
check '300 idle clients: quiet, and others are served' with_crowd 300 beside_crowd
check 'SIGHUP: a reload' reload
check 'a session whose client is away' leave_session
check 'all connections are closed' wait_for 10 sockets_at_most "$SOCKETS" "$APP_PID"
kill -TERM "$APP_PID"
await_exit 'SIGTERM'
start_app "$PORT" mosquitto -c "$CONF"
check 'after a restart: retained messages' retained_are_there
check 'after a restart: the client is back and gets what came meanwhile' return_to_session
check 'idle' quiet "$APP_PID"
kill -TERM "$APP_PID"
await_exit 'SIGTERM again'
check 'nothing is left' nothing_left "$PORT"
compare 'QoS 0' start_compared messages
summary "$(mosquitto -h | head -n 1)" 'QoS 0, 1 and 2 counted and in order, retained, wills, sessions, reload, restart'
finish
