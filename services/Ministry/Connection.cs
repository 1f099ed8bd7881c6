using System.CommandLine;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Ministries.Trust;

namespace Ministries.Ministry;

/// <summary>A service was not reached, or did not answer in time.</summary>
/// <param name="text">Which service, at which address, why, and which file says so.</param>
/// <param name="inner">What was caught.</param>
internal sealed class NotReachedException(string text, Exception inner) : Exception(text, inner);

/// <summary>What a verb needs to call: who calls, whom, and how answers are shown. What the options do not say, variables say, then the
/// profile.</summary>
internal sealed class Connection : IDisposable
{
    private static readonly Dictionary<string, string> Standard = new()
    {
        ["calllog"] = "https://127.0.0.1:7101",
        ["custody"] = "https://127.0.0.1:7102",
        ["consular"] = "https://127.0.0.1:7103",
    };

    /// <summary>How many calls may be in progress at once: 16. A service has 64 places for a participant, and its other systems need some.
    /// </summary>
    internal const int MostCalls = 16;

    private readonly SemaphoreSlim _places = new(MostCalls);
    private readonly ParseResult _result;
    private readonly Lazy<Screen> _asking;
    private readonly Lazy<MinistryClient> _client;

    /// <summary>Reads the profile; connects nowhere.</summary>
    /// <exception cref="FormatException">The configuration file or an option is not of its form.</exception>
    public Connection(ParseResult result, Func<MinistrySettings, MinistrySettings>? but = null)
        : this(result, Shell.Of(result), result.InvocationConfiguration.Output, result.InvocationConfiguration.Error, but) { }

    /// <summary>The same in a shell that is named.</summary>
    public Connection(
        ParseResult result,
        Shell shell,
        TextWriter output,
        TextWriter error,
        Func<MinistrySettings, MinistrySettings>? but = null,
        bool readsProfile = true
    )
    {
        _result = result;
        Shell = shell;
        Profile = readsProfile ? Profile.Read(shell, result.GetValue(Options.Profile)) : Profile.None(shell);
        if (Checked("zone", Options.Zone) is { Length: > 0 } zone)
            Shell = shell with { Zone = SettingForms.Zone(zone)! };
        Screen = new Screen(output, Shell);
        Error = new Screen(error, Shell.ForErrors);
        var format = Checked("output", Options.Output);
        Format =
            result.GetValue(Options.Json) ? OutputFormat.Json
            : format.Length == 0 ? OutputFormat.Table
            : SettingForms.Format(format)!.Value;
        _asking = new(() => Shell.Asking is { } open ? new Screen(new Terminal(open()), Shell.ForAsking) : Error);
        _client = new(() => Open(but is null ? Settings() : but(Settings())));
    }

    /// <summary>The same for a verb that may get its settings otherwise.</summary>
    /// <param name="result">What was given.</param>
    /// <param name="readsProfile">Whether the profile says what options and variables do not.</param>
    public static Connection Of(ParseResult result, bool readsProfile) =>
        new(
            result,
            Shell.Of(result),
            result.InvocationConfiguration.Output,
            result.InvocationConfiguration.Error,
            readsProfile: readsProfile
        );

    /// <summary>The profile.</summary>
    public Profile Profile { get; }

    /// <summary>In what the verb was started, with the zone that was chosen.</summary>
    public Shell Shell { get; }

    /// <summary>Where the answer goes.</summary>
    public Screen Screen { get; }

    /// <summary>Where everything else goes.</summary>
    public Screen Error { get; }

    /// <summary>The screen on which a person is asked.</summary>
    public Screen Asking => _asking.Value;

    /// <summary>How the answer is written.</summary>
    public OutputFormat Format { get; }

    /// <summary>The client of the participant.</summary>
    /// <exception cref="FormatException">A file does not hold what it should, or something needed was not said.</exception>
    public MinistryClient Client => _client.Value;

    /// <summary>The folder with the participants' files.</summary>
    public string Folder => Needed("folder", Options.Folder);

    /// <summary>The agreement's file.</summary>
    public string AgreementPath => Path.Combine(Folder, "agreement.json");

    /// <summary>The participant that calls.</summary>
    public string As => Needed("as", Options.As);

    /// <summary>Where receipts are kept.</summary>
    public string Receipts =>
        ValueOf("receipts", Options.Receipts) is { Length: > 0 } folder ? folder : Path.Combine(Folder, As, "receipts");

    /// <summary>The file in which the client keeps the receipt of an entry.</summary>
    public string ReceiptOf(string service, ulong position) => Path.Combine(Receipts, $"{service}-{position}.json");

    /// <summary>How answers are to be written, where no profile can be read: as an option or the variable says.</summary>
    public static OutputFormat FormatIn(ParseResult result) =>
        result.GetValue(Options.Json)
            ? OutputFormat.Json
            : SettingForms.Format(result.GetValue(Options.Output) ?? Shell.Of(result).Text("MINISTRIES_OUTPUT")) ?? OutputFormat.Table;

    /// <summary>Asks the person at the terminal; anything but yes is no.</summary>
    /// <param name="question">What he is asked.</param>
    /// <param name="otherwise">What he is told unless he says yes.</param>
    /// <param name="cancel">Ends the waiting for his answer.</param>
    /// <exception cref="OperationCanceledException">He interrupted it instead of answering.</exception>
    public async Task<bool> Ask(string question, string otherwise, CancellationToken cancel)
    {
        Asking.Lines($"{question} [y/N] ");
        string? answer;
        try
        {
            // A read from a terminal cannot be given up, so it is left behind: an answer that comes later is nobody's.
            answer = await Task.Run(() => (Shell.Person ?? Shell.Input)().ReadLine(), CancellationToken.None).WaitAsync(cancel);
            cancel.ThrowIfCancellationRequested();
        }
        catch (OperationCanceledException)
        {
            Asking.Line();
            Asking.Line(otherwise);
            throw;
        }
        var yes = answer?.Trim() is "y" or "Y" or "yes" or "Yes";
        if (!yes)
            Asking.Line(otherwise);
        return yes;
    }

    /// <summary>A setting; empty: nothing says it.</summary>
    /// <param name="name">Its name in a profile.</param>
    /// <param name="option">Its option; null: it has none.</param>
    public string ValueOf(string name, Option<string>? option = null) => Said(name, option).Value;

    /// <summary>As <see cref="ValueOf"/>, as far as an option or a variable says it; null: neither does.</summary>
    public string? GivenOf(string name, Option<string>? option = null) =>
        Said(name, option) is { Value.Length: > 0, IsKept: false } said ? said.Value : null;

    /// <summary>Who says a setting; empty: nobody.</summary>
    public string SourceOf(string name, Option<string>? option = null) => Said(name, option).Source;

    /// <summary>The caller of a service and the service's addresses, where options and variables give them, as options with a space before
    /// each. They complete a command line that does the same in another shell. Values of the profile are left out, because the profile
    /// applies there too.</summary>
    /// <param name="service">The service.</param>
    /// <param name="participant">The participant that must call; empty: the one that calls now.</param>
    public string OptionsFor(string service, string participant)
    {
        var caller = GivenOf("as", Options.As);
        if (participant.Length > 0 && (caller is not null || ValueOf("as") != participant))
            caller = participant;
        (Option Option, string? Value)[] said =
        [
            (Options.Profile, GivenOf("profile", Options.Profile)),
            (Options.Folder, WholePath(GivenOf("folder", Options.Folder))),
            (Options.As, caller),
            (Options.RequestsKey, GivenOf("requests-key", Options.RequestsKey) is { } key ? WholeLocation(key) : null),
            (Options.Receipts, WholePath(GivenOf("receipts", Options.Receipts))),
            (Options.Address, (AddressOption(service) ?? GivenOf(service)) is { } address ? $"{service}={address}" : null),
        ];
        return string.Concat(said.Where(s => s.Value is not null).Select(s => $" {s.Option.Name} {Shell.Word(s.Value!)}"));

        static string? WholePath(string? path) => path is null ? null : Path.GetFullPath(path);

        static string WholeLocation(string key) => SettingForms.IsPath(key) ? Path.GetFullPath(key) : key;
    }

    /// <summary>The addresses of a service, and who says so.</summary>
    /// <exception cref="FormatException">They are not of their form.</exception>
    public (IReadOnlyList<Uri> Addresses, string Source) AddressesOf(string service)
    {
        foreach (var given in _result.GetValue(Options.Address) ?? [])
            if (given.Split('=', 2) is not [var name, _] || !Contract.Services.Contains(name))
                throw new FormatException(
                    $"--address {given}: NAME=https://HOST:PORT, the name one of {string.Join(", ", Contract.Services)}"
                );
        var (text, source, _) = AddressOption(service) is { } option ? (option, "--address", false) : Said(service, null);
        if (text.Length == 0)
            (text, source) = (Standard[service], "no option, variable or profile says another");
        return (
            ServiceAddresses.Read(text)
                ?? throw new FormatException(
                    $"{source}: {service}={text} is not https://HOST:PORT; separate several addresses with commas"
                ),
            source
        );
    }

    /// <summary>What the client is made from.</summary>
    public MinistrySettings Settings()
    {
        var services = Contract.Services.ToDictionary(s => s, s => AddressesOf(s).Addresses);
        var timeout = Checked("timeout", Options.Timeout);
        var seconds = timeout.Length == 0 ? 0 : SettingForms.Seconds(timeout)!.Value;
        var settings = MinistrySettings.In(Folder, As, services) with
        {
            SecretsFolder = CallCommands.SecretsFolder,
            AuditEvery = 0,
            ReceiptFolder = Receipts,
        };
        if (seconds > 0)
            settings = settings with { Deadline = TimeSpan.FromSeconds(seconds) };
        return ValueOf("requests-key", Options.RequestsKey) is { Length: > 0 } key ? settings with { RequestsKey = key } : settings;
    }

    /// <summary>Calls a method. What takes longer than two seconds is shown. Of any number of calls, 16 are in progress at once; the others
    /// wait for a place.</summary>
    /// <exception cref="RefusedException">The service refused.</exception>
    /// <exception cref="NotReachedException">It was not reached.</exception>
    public async Task<IMessage> Call(string service, MethodDescriptor method, IMessage request, CancellationToken cancel)
    {
        await _places.WaitAsync(cancel);
        try
        {
            var what = $"{Words.Kebab(method.Name)} at {service}";
            return await Reach(service, () => Client.Call(service, method, request, cancel), what, cancel);
        }
        finally
        {
            _places.Release();
        }
    }

    /// <summary>Reads all entries of a case, or of every case, that the participant may see.</summary>
    public async Task<IReadOnlyList<LedgerEntry>> Entries(string service, string @case, CancellationToken cancel) =>
        await Reach(
            service,
            async () =>
            {
                var entries = new List<LedgerEntry>();
                await foreach (var response in Client.Follow(service, 0, @case, untilNow: true, cancel))
                    if (response.Entry is { } entry)
                        entries.Add(LedgerEntry.Read(entry));
                return (IReadOnlyList<LedgerEntry>)entries;
            },
            $"entries of {service}",
            cancel
        );

    /// <summary>Reads all pages of a list.</summary>
    /// <param name="service">The service.</param>
    /// <param name="method">The method, whose answer has one list and a page token.</param>
    /// <param name="request">The request, which is changed from page to page.</param>
    /// <param name="cancel">Ends it.</param>
    /// <param name="most">After how many records it ends.</param>
    public async Task<IReadOnlyList<IMessage>> ListAll(
        string service,
        MethodDescriptor method,
        IMessage request,
        CancellationToken cancel,
        int most = int.MaxValue
    ) => await Pages.Read(method, request, r => Call(service, method, r, cancel), most);

    /// <summary>Does something for which a service must be reached, and says which one if it is not.</summary>
    public Task<T> Reach<T>(string service, Func<Task<T>> call, string what, CancellationToken cancel) =>
        Reach(() => service, call, what, cancel);

    /// <summary>As the other, for several services of which one after the other is called.</summary>
    public async Task<T> Reach<T>(Func<string> service, Func<Task<T>> call, string what, CancellationToken cancel)
    {
        try
        {
            return await Error.While(what, call);
        }
        catch (RpcException e) when (RefusedException.From(e) is { } refused)
        {
            throw refused;
        }
        catch (RpcException) when (cancel.IsCancellationRequested)
        {
            throw new OperationCanceledException(cancel);
        }
        catch (Exception e) when (e is RpcException or HttpRequestException)
        {
            throw NotReached(service(), e);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_client.IsValueCreated)
            _client.Value.Dispose();
        _places.Dispose();
    }

    private string? AddressOption(string service) =>
        (_result.GetValue(Options.Address) ?? []).LastOrDefault(a => a.StartsWith($"{service}=", StringComparison.Ordinal)) is { } given
            ? given[(service.Length + 1)..]
            : null;

    private NotReachedException NotReached(string service, Exception e)
    {
        var (addresses, source) = AddressesOf(service);
        var cause = (e as RpcException)?.Status.DebugException ?? e;
        var why =
            e is RpcException { StatusCode: StatusCode.DeadlineExceeded } ? "no answer in time (--timeout)"
            : cause.GetBaseException() is RpcException { Status.Detail: var detail } ? detail
            : cause.GetBaseException().Message;
        return new NotReachedException(
            $"{service} was not reached at {string.Join(", ", addresses.Select(a => a.GetLeftPart(UriPartial.Authority)))}: {why}\n"
                + $"  address:   {source}\n"
                + $"  agreement: {AgreementPath}\n"
                + "  `ministry doctor` says what is wrong",
            e
        );
    }

    private (string Value, string Source, bool IsKept) Said(string name, Option<string>? option)
    {
        if (option is not null && _result.GetValue(option) is { Length: > 0 } given)
            return (given, option.Name, false);
        var variable = $"MINISTRIES_{name.Replace('-', '_').ToUpperInvariant()}";
        if (Shell.Text(variable) is { Length: > 0 } set)
            return (set, variable, false);
        return Profile.Settings.GetValueOrDefault(name) is { Length: > 0 } kept
            ? (kept, $"profile {Profile.Name} in {Profile.Path}", true)
            : ("", "", false);
    }

    // A fault is that of whoever says the value.
    private string Checked(string name, Option<string> option)
    {
        var (value, source, isKept) = Said(name, option);
        if (value.Length > 0 && SettingForms.Fault(name, value) is { } fault)
            throw new FormatException(isKept ? $"{source}: {name} {fault}" : $"{source} {fault}");
        return value;
    }

    private MinistryClient Open(MinistrySettings settings)
    {
        try
        {
            // A verb that follows runs for long, and files may change meanwhile.
            return new MinistryClient(settings with { Complain = text => Error.Line(new Span(Terminal.Line(text))) });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException && KeptOf().Length > 0)
        {
            throw new FormatException($"{e.Message}\n  {KeptOf()}", e);
        }
    }

    // Of what says which files are read, what the profile says: nobody has typed that.
    private string KeptOf()
    {
        (string Name, Option<string> Option)[] files =
        [
            ("folder", Options.Folder),
            ("as", Options.As),
            ("requests-key", Options.RequestsKey),
        ];
        string[] kept =
        [
            .. files.Select(f => (f.Name, Said: Said(f.Name, f.Option))).Where(f => f.Said.IsKept).Select(f => $"{f.Name} {f.Said.Value}"),
        ];
        return kept.Length == 0 ? "" : $"profile {Profile.Name} in {Profile.Path} says: {string.Join(", ", kept)}";
    }

    private string Needed(string name, Option<string> option) =>
        ValueOf(name, option) is { Length: > 0 } value
            ? value
            : throw new FormatException(
                $"{option.Name} or MINISTRIES_{name.ToUpperInvariant()} is needed; `ministry config set {name} …` keeps it"
            );
}

/// <summary>How answers are written.</summary>
internal enum OutputFormat
{
    /// <summary>For a person, cut to the terminal.</summary>
    Table,

    /// <summary>For a person, whole.</summary>
    Wide,

    /// <summary>JSON.</summary>
    Json,

    /// <summary>YAML.</summary>
    Yaml,
}
