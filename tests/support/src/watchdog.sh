# Runs one database server on orders from standard input, one a line, each answered by the server's
# process id or "none". More options for the server may follow the order to start it. When the input ends, as it does when the test process ends, however that
# happens, the server is killed and its folder removed.
# Arguments: the server's folder, then its command line.
folder=$1
shift
server=

signal() {
    [ -z "$server" ] || kill -s "$1" "$server"
}

# Keeps the process id of a server that has ended from being used again: it stays a zombie until here.
reap() {
    [ -z "$server" ] || wait "$server"
    server=
}

while read -r order options; do
    case $order in
    start)
        # shellcheck disable=SC2086 # several options, without spaces in them
        "$@" $options </dev/null >>"$folder/log" 2>&1 &
        server=$!
        ;;
    kill)
        signal KILL
        reap
        ;;
    shutdown)
        signal CONT
        signal TERM
        # A server that hangs while it shuts down must not outlive the tests.
        (sleep 20 && signal KILL) &
        fuse=$!
        reap
        kill "$fuse"
        ;;
    # Waits for a server that was started to do one thing and end.
    finish) reap ;;
    freeze) signal STOP ;;
    thaw) signal CONT ;;
    esac
    echo "${server:-none}"
done
signal KILL
reap
rm -rf "$folder"
