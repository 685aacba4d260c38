%% An echo server by gen_tcp: `erl -noshell -s app_echo main PORT`. A process a connection, {active, once}. Before it
%% listens it checks what needs no connection from outside: ports, timers, datagrams, the socket module. TERM ends it,
%% with one line of counts.
-module(app_echo).
-behaviour(gen_event).
-export([main/1, init/1, handle_event/2, handle_call/2]).

main([Port]) ->
    try
        serve(list_to_integer(atom_to_list(Port)))
    catch
        Class:Reason:Stack ->
            io:format("~p ~p~n~p~n", [Class, Reason, Stack]),
            halt(1)
    end.

serve(Port) ->
    Beside = together([fun ports/0, fun killed_ports/0, fun timers/0, fun datagrams/0, fun sockets/0]),
    %% The sets that it waits on: one for each thread that polls, the schedulers' own, and one by poll for all else.
    Sets = [atom_to_list(Way) || Set <- erlang:system_info(check_io), {primary, Way} <- Set],
    io:format("BESIDE ~s; sets: ~s~n", [lists:join(", ", Beside), lists:join(" ", Sets)]),
    ok = gen_event:delete_handler(erl_signal_server, erl_signal_handler, []),
    ok = gen_event:add_handler(erl_signal_server, ?MODULE, self()),
    Counts = counters:new(4, []),
    %% Without exit_on_close a client's end of its side is not the end of ours.
    {ok, Listener} = gen_tcp:listen(Port, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {backlog, 1024},
        {exit_on_close, false}, {reuseaddr, true}]),
    %% Several that accept, as many servers do.
    [spawn_link(fun() -> accept(Listener, Counts) end) || _ <- lists:seq(1, 4)],
    receive sigterm -> ok end,
    Left = length([open || Each <- erlang:ports(), erlang:port_info(Each, name) =:= {name, "tcp_inet"}]) - 1,
    [Accepted, Whole, Broken, Bytes] = [counters:get(Counts, At) || At <- [1, 2, 3, 4]],
    io:format("SERVED accepted=~b whole=~b broken=~b bytes=~b open=~b~n", [Accepted, Whole, Broken, Bytes, Left]),
    init:stop(0).

%% --- the handler of signals -----------------------------------------------------------------------------------------

init(Process) -> {ok, Process}.

handle_event(sigterm, Process) ->
    Process ! sigterm,
    {ok, Process};
handle_event(_, Process) ->
    {ok, Process}.

handle_call(_, Process) -> {ok, ok, Process}.

%% --- connections ----------------------------------------------------------------------------------------------------

accept(Listener, Counts) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    counters:add(Counts, 1, 1),
    Process = spawn(fun() -> receive go -> echo(Socket, Counts) end end),
    ok = gen_tcp:controlling_process(Socket, Process),
    Process ! go,
    accept(Listener, Counts).

echo(Socket, Counts) ->
    case inet:setopts(Socket, [{active, once}]) of
        ok ->
            receive
                {tcp, Socket, Data} ->
                    counters:add(Counts, 4, byte_size(Data)),
                    case gen_tcp:send(Socket, Data) of
                        ok -> echo(Socket, Counts);
                        {error, _} -> ended(Socket, Counts, 3)
                    end;
                {tcp_closed, Socket} -> ended(Socket, Counts, 2);
                {tcp_error, Socket, _} -> ended(Socket, Counts, 3)
            end;
        {error, _} -> ended(Socket, Counts, 3)
    end.

ended(Socket, Counts, At) ->
    gen_tcp:close(Socket),
    counters:add(Counts, At, 1).

%% --- what needs no connection from outside --------------------------------------------------------------------------

together(Jobs) ->
    Running = [spawn_monitor(fun() -> exit({result, Job()}) end) || Job <- Jobs],
    [receive {'DOWN', Monitor, process, Process, {result, Result}} -> Result;
             {'DOWN', Monitor, process, Process, Other} -> error(Other)
     after 20000 -> error(no_end) end || {Process, Monitor} <- Running].

%% Children whose output ends with their status: 20 through which data goes, 50 that only end.
ports() ->
    Head = os:find_executable("head"),
    Shell = os:find_executable("sh"),
    Copies = [fun() ->
        Said = rand:bytes(300000),
        Port = open_port({spawn_executable, Head}, [{args, ["-c", "300000"]}, binary, exit_status, use_stdio]),
        true = port_command(Port, Said),
        {Said, 0} = output(Port, [])
    end || _ <- lists:seq(1, 20)],
    Codes = [fun() ->
        Port = open_port({spawn_executable, Shell},
            [{args, ["-c", io_lib:format("echo ~b; exit ~b", [Code, Code])]}, binary, exit_status]),
        Text = iolist_to_binary(io_lib:format("~b~n", [Code])),
        {Text, Code} = output(Port, [])
    end || Code <- lists:seq(1, 50)],
    together(Copies ++ Codes),
    "one\n" = os:cmd("echo one"),
    "70 ports".

output(Port, Got) ->
    receive
        {Port, {data, Data}} -> output(Port, [Got, Data]);
        {Port, {exit_status, Status}} -> {iolist_to_binary(Got), Status}
    after 15000 -> error({silent, Port, iolist_size(Got)}) end.

%% Ports that are closed while their children wait for input: these see its end, and end.
killed_ports() ->
    Cat = os:find_executable("cat"),
    Ports = [open_port({spawn_executable, Cat}, [binary]) || _ <- lists:seq(1, 20)],
    Pids = [element(2, erlang:port_info(Port, os_pid)) || Port <- Ports],
    [begin
        port_command(Port, <<"some">>),
        receive {Port, {data, <<"some">>}} -> ok after 15000 -> error(silent) end,
        true = port_close(Port)
    end || Port <- Ports],
    [gone(Pid, 300) || Pid <- Pids],
    "20 closed ports".

gone(Pid, Patience) ->
    case filelib:is_dir("/proc/" ++ integer_to_list(Pid)) of
        true when Patience > 0 -> timer:sleep(50), gone(Pid, Patience - 1);
        Is -> false = Is
    end.

timers() ->
    Start = erlang:monotonic_time(millisecond),
    [erlang:send_after(Number * 7 rem 300, self(), {timer, Number * 7 rem 300}) || Number <- lists:seq(1, 1000)],
    [receive {timer, Due} -> true = erlang:monotonic_time(millisecond) - Start >= Due
     after 10000 -> error(no_timer) end || _ <- lists:seq(1, 1000)],
    "1000 timers".

datagrams() ->
    Here = {127, 0, 0, 1},
    {ok, One} = gen_udp:open(0, [binary, {ip, Here}, {active, once}]),
    {ok, Other} = gen_udp:open(0, [binary, {ip, Here}, {active, once}]),
    {ok, To} = inet:port(Other),
    [begin
        Text = integer_to_binary(Number),
        ok = gen_udp:send(One, Here, To, Text),
        receive {udp, Other, Here, From, Text} -> ok = gen_udp:send(Other, Here, From, Text)
        after 10000 -> error(no_datagram) end,
        receive {udp, One, Here, To, Text} -> ok after 10000 -> error(no_answer) end,
        inet:setopts(One, [{active, once}]),
        inet:setopts(Other, [{active, once}])
    end || Number <- lists:seq(1, 500)],
    gen_udp:close(One),
    gen_udp:close(Other),
    "500 datagrams".

%% The socket module asks for one readiness at a time, from scheduler threads.
sockets() ->
    {ok, Listener} = socket:open(inet, stream, tcp),
    ok = socket:bind(Listener, #{family => inet, port => 0, addr => loopback}),
    ok = socket:listen(Listener, 64),
    {ok, Address} = socket:sockname(Listener),
    Said = rand:bytes(200000),
    %% A socket ends with the process that accepted it, so each is served by that one.
    Servers = [fun() ->
        {ok, Socket} = socket:accept(Listener, 15000),
        echo_socket(Socket)
    end || _ <- lists:seq(1, 20)],
    Clients = [fun() ->
        {ok, Socket} = socket:open(inet, stream, tcp),
        ok = socket:connect(Socket, Address),
        spawn_link(fun() -> ok = socket:send(Socket, Said), ok = socket:shutdown(Socket, write) end),
        {ok, Said} = socket:recv(Socket, byte_size(Said), 15000),
        {error, closed} = socket:recv(Socket, 0, 15000),
        socket:close(Socket)
    end || _ <- lists:seq(1, 20)],
    together(Servers ++ Clients),
    socket:close(Listener),
    "20 connections of the socket module".

echo_socket(Socket) ->
    case socket:recv(Socket, 0, 15000) of
        {ok, Data} -> ok = socket:send(Socket, Data), echo_socket(Socket);
        {error, closed} -> socket:close(Socket)
    end.
