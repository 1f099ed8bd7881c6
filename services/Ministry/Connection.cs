using System.CommandLine;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using Grpc.Core;
using Ministries.Ledger.V1;
using Ministries.Trust;
using Ministries.Types.V1;

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

    private readonly ParseResult _result;
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
        Func<MinistrySettings, MinistrySettings>? but = null
    )
    {
        _result = result;
        Shell = shell;
        Profile = Profile.Read(shell, result.GetValue(Options.Profile));
        if (ValueOf("zone", Options.Zone) is { Length: > 0 } zone)
            Shell = shell with
            {
                Zone = TimeZoneInfo.TryFindSystemTimeZoneById(zone, out var found)
                    ? found
                    : throw new FormatException($"--zone {zone}: no such zone in the IANA database"),
            };
        Screen = new Screen(output, Shell);
        Error = new Screen(error, Shell);
        var format = ValueOf("output", Options.Output);
        Format =
            result.GetValue(Options.Json) ? OutputFormat.Json
            : format.Length == 0 ? OutputFormat.Table
            : Enum.TryParse<OutputFormat>(format, ignoreCase: true, out var known) && Enum.IsDefined(known) ? known
            : throw new FormatException($"--output is one of table, wide, json, yaml, not {format}");
        // A verb that follows runs for long, and files may change meanwhile.
        _client = new(() =>
            new MinistryClient(
                (but is null ? Settings() : but(Settings())) with
                {
                    Complain = text => error.WriteLine(Terminal.Line(text)),
                }
            )
        );
    }

    /// <summary>The profile.</summary>
    public Profile Profile { get; }

    /// <summary>In what the verb was started, with the zone that was chosen.</summary>
    public Shell Shell { get; }

    /// <summary>Where the answer goes.</summary>
    public Screen Screen { get; }

    /// <summary>Where everything else goes.</summary>
    public Screen Error { get; }

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

    /// <summary>Asks the person at the terminal; anything but yes is no.</summary>
    public bool Ask(string question)
    {
        Error.Lines($"{question} [y/N] ");
        var yes = Shell.Input().ReadLine()?.Trim() is "y" or "Y" or "yes" or "Yes";
        if (!yes)
            Error.Line("nothing was sent");
        return yes;
    }

    /// <summary>A setting; empty: nothing says it.</summary>
    /// <param name="name">Its name in a profile.</param>
    /// <param name="option">Its option; null: it has none.</param>
    public string ValueOf(string name, Option<string>? option = null) => Said(name, option).Value;

    /// <summary>The addresses of a service, and who says so.</summary>
    /// <exception cref="FormatException">They are not of their form.</exception>
    public (IReadOnlyList<Uri> Addresses, string Source) AddressesOf(string service)
    {
        foreach (var given in _result.GetValue(Options.Address) ?? [])
            if (given.Split('=', 2) is not [var name, _] || !Contract.Services.Contains(name))
                throw new FormatException(
                    $"--address {given}: NAME=https://HOST:PORT, the name one of {string.Join(", ", Contract.Services)}"
                );
        var option = (_result.GetValue(Options.Address) ?? []).LastOrDefault(a => a.StartsWith($"{service}=", StringComparison.Ordinal));
        var (text, source) = option is not null ? (option[(service.Length + 1)..], "--address") : Said(service, null);
        if (text.Length == 0)
            (text, source) = (Standard[service], "no option, variable or profile says another");
        return (
            ServiceAddresses.Read(text)
                ?? throw new FormatException(
                    $"{source}: {service}={text} is not https://HOST:PORT; several addresses have commas between them"
                ),
            source
        );
    }

    /// <summary>What the client is made from.</summary>
    public MinistrySettings Settings()
    {
        var services = Contract.Services.ToDictionary(s => s, s => AddressesOf(s).Addresses);
        var text = ValueOf("timeout", Options.Timeout);
        var seconds = 0;
        if (text.Length > 0 && (!int.TryParse(text, out seconds) || seconds is < 1 or > 600))
            throw new FormatException("--timeout must be from 1 to 600");
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

    /// <summary>Calls a method. What takes longer than two seconds is shown.</summary>
    /// <exception cref="RefusedException">The service refused.</exception>
    /// <exception cref="NotReachedException">It was not reached.</exception>
    public async Task<IMessage> Call(string service, MethodDescriptor method, IMessage request, CancellationToken cancel) =>
        await Reach(service, () => Client.Call(service, method, request, cancel), $"{Words.Kebab(method.Name)} at {service}", cancel);

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
    public async Task<T> Reach<T>(string service, Func<Task<T>> call, string what, CancellationToken cancel)
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
            throw NotReached(service, e);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_client.IsValueCreated)
            _client.Value.Dispose();
    }

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

    private (string Value, string Source) Said(string name, Option<string>? option)
    {
        if (option is not null && _result.GetValue(option) is { Length: > 0 } given)
            return (given, option.Name);
        var variable = $"MINISTRIES_{name.Replace('-', '_').ToUpperInvariant()}";
        if (Shell.Text(variable) is { Length: > 0 } set)
            return (set, variable);
        return Profile.Settings.GetValueOrDefault(name) is { Length: > 0 } kept
            ? (kept, $"profile {Profile.Name} in {Profile.Path}")
            : ("", "");
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
