using System.Globalization;
using Google.Protobuf;
using Ministries.Ledger;
using Ministries.Types.V1;

namespace Ministries.Trust;

/// <summary>One version of the agreement, as it is used: who may what, and who vouches for whom.</summary>
/// <param name="Permissions">What it grants.</param>
/// <param name="Authorities">Its authorities.</param>
public sealed record ParsedAgreement(Permissions Permissions, Authorities Authorities)
{
    /// <summary>The version itself.</summary>
    public Agreement Agreement => Permissions.Agreement;
}

/// <summary>An agreement was refused.</summary>
public sealed class AgreementRefusedException(string why, Exception? inner = null)
    : FormatException($"the agreement is refused: {why}", inner)
{
    /// <summary>It does not follow from the version that is known, or is not signed by those whom it affects.</summary>
    public AgreementRefusedException(AgreementFault fault, string advice = "")
        : this(fault + advice) => Fault = fault;

    /// <summary>What is wrong with its versions or signatures; null: something else is wrong.</summary>
    public AgreementFault? Fault { get; }
}

/// <summary>
/// The file of an agreement, as services, witnesses and clients read it: its form, its signatures, and that it follows from the version
/// that was trusted last. Earlier versions are kept beside the file, with their numbers after its name (<c>agreement.json.2</c>), for
/// programs that missed one or start without any.
/// </summary>
public static class AgreementFile
{
    /// <summary>How many versions before the file's are looked at: 1000.</summary>
    public const int MaxBefore = 1000;

    /// <summary>The greatest size of the file: 16 MiB.</summary>
    public const int MaxBytes = 16 << 20;

    /// <summary>Reads an agreement's file. Every program reads it so: services, witnesses, clients and the command. It does not check the
    /// signatures.</summary>
    /// <param name="path">The file: at most <see cref="MaxBytes"/>.</param>
    /// <exception cref="AgreementRefusedException">As for <see cref="Read"/>.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static ParsedAgreement Load(string path) => Read(BytesOf(path));

    /// <summary>The bytes of an agreement's file.</summary>
    /// <param name="path">The file: at most <see cref="MaxBytes"/>.</param>
    /// <exception cref="AgreementRefusedException">It is larger.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public static byte[] BytesOf(string path)
    {
        using var file = File.OpenRead(path);
        if (file.Length > MaxBytes)
            throw new AgreementRefusedException($"{path} is larger than {MaxBytes} bytes");
        var bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        return bytes;
    }

    /// <summary>Reads an agreement's text. It does not check the signatures.</summary>
    /// <param name="text">JSON in UTF-8; a byte order mark before it is passed over (RFC 8259, 8.1).</param>
    /// <exception cref="AgreementRefusedException">It cannot be read, has no version, contradicts itself or is not in the form of one
    /// (<see cref="AgreementVersions.Malformed"/>).</exception>
    public static ParsedAgreement Read(ReadOnlySpan<byte> text)
    {
        try
        {
            var agreement = JsonParser.Default.Parse<Agreement>(PlainText.Of(text));
            if (agreement.Version == 0)
                throw new FormatException("it has no version");
            if (AgreementVersions.Malformed(agreement) is { } fault)
                throw new AgreementRefusedException(fault);
            if (Cosigners.Wrong(agreement) is { } wrong)
                throw new FormatException(wrong);
            return new ParsedAgreement(new Permissions(agreement), new Authorities(agreement));
        }
        catch (Exception e)
            when (e
                    is not AgreementRefusedException
                        and (InvalidProtocolBufferException or InvalidJsonException or FormatException or ArgumentException)
            )
        {
            throw new AgreementRefusedException(e.Message, e);
        }
    }

    /// <summary>Whether a version replaces the known one; false: it is the same version, perhaps with other signatures.</summary>
    /// <param name="known">The version that is known; null: none is.</param>
    /// <param name="next">The version, as <see cref="Read"/> has read it.</param>
    /// <param name="at">When: the keys that signed it must be valid then.</param>
    /// <exception cref="AgreementRefusedException">It is another agreement of the same number, an earlier version, not the next version, or
    /// not signed by those whom it affects.</exception>
    public static bool Follows(Agreement? known, Agreement next, DateTimeOffset at)
    {
        if (known?.Version == next.Version)
            return AgreementVersions.DigestOf(known).AsSpan().SequenceEqual(AgreementVersions.DigestOf(next))
                ? false
                : throw new AgreementRefusedException(
                    $"another agreement of version {next.Version} is known: a change needs the next version"
                );
        if (known?.Version > next.Version)
            throw new AgreementRefusedException(
                $"version {known.Version} is known, which is later than {next.Version}: put that one, or the one after it, in the file's place"
            );
        return AgreementVersions.Check(known, next, at) is { } fault ? throw new AgreementRefusedException(fault) : true;
    }

    /// <summary>The path of a version that another has replaced.</summary>
    /// <param name="path">The agreement's file.</param>
    /// <param name="version">The version's number.</param>
    public static string PathOf(string path, ulong version) => $"{path}.{version.ToString(CultureInfo.InvariantCulture)}";

    /// <summary>The version to use: that of the file, if it follows from the one that was trusted last. It is then kept as the one trusted
    /// last.</summary>
    /// <param name="path">The agreement's file.</param>
    /// <param name="folder">The folder that keeps the version that was trusted last, as <c>agreement.json</c>; created if missing. null:
    /// none is kept. Then the file must be signed by everybody in it, or the versions before it must be beside it.</param>
    /// <param name="at">The time.</param>
    /// <exception cref="AgreementRefusedException">It must not be judged by.</exception>
    /// <exception cref="IOException">A file cannot be read or written.</exception>
    public static ParsedAgreement Trust(string path, string? folder, DateTimeOffset at)
    {
        var kept = folder is null ? null : Path.Combine(folder, "agreement.json");
        var known = kept is not null && File.Exists(kept) ? Load(kept) : null;
        if (Next(path, known?.Agreement, at, out _) is not { } next)
            return known ?? throw new AgreementRefusedException("it is not valid yet");
        if (folder is not null)
            Keep(folder, next.Agreement);
        return next;
    }

    /// <summary>The file's version, if it replaces the known one; null: it is the known one, or is not valid yet. While it is not valid, a
    /// version beside it that is later than the known one is used, because it may revoke a key.</summary>
    /// <exception cref="AgreementRefusedException">It must not be judged by.</exception>
    internal static ParsedAgreement? Next(string path, Agreement? known, DateTimeOffset at, out bool waits)
    {
        var next = Load(path);
        waits = IsLater(next);
        while (IsLater(next))
        {
            var before = next.Agreement.Version - 1;
            if (before <= (known?.Version ?? 0) || !File.Exists(PathOf(path, before)))
                return null;
            next = LoadBeside(path, before);
        }
        // The one that is known, or one before it.
        if (known?.Version >= next.Agreement.Version)
            return Follows(known, next.Agreement, at) ? next : null;
        var chain = new Stack<Agreement>([next.Agreement]);
        while (!Begins(known, chain.Peek(), at))
        {
            var before = chain.Peek().Version - 1;
            var beside = PathOf(path, before);
            if (before == 0 || chain.Count > MaxBefore || !File.Exists(beside))
                throw Missing(known, chain.Peek(), beside, at);
            chain.Push(LoadBeside(path, before).Agreement);
        }
        for (var last = known; chain.TryPop(out var one); last = one)
            Follows(last, one, at);
        return next;

        bool IsLater(ParsedAgreement version) => version.Agreement.ValidFromTime?.ToDateTimeOffset() > at;
    }

    private static ParsedAgreement LoadBeside(string path, ulong version)
    {
        var beside = PathOf(path, version);
        var found = Load(beside);
        return found.Agreement.Version == version
            ? found
            : throw new AgreementRefusedException($"{beside} holds version {found.Agreement.Version}");
    }

    /// <summary>Keeps a version as the one that was trusted last.</summary>
    internal static void Keep(string folder, Agreement agreement)
    {
        PrivateFiles.MakeFolder(folder);
        var kept = Path.Combine(folder, "agreement.json");
        // The file is written atomically, because another process may write it too.
        WholeFile.Write(kept, JsonFormatter.Default.Format(agreement), $"{kept}.{Guid.NewGuid():N}");
    }

    // Whether the version can be checked with nothing but what is known.
    private static bool Begins(Agreement? known, Agreement first, DateTimeOffset at) =>
        known is null ? AgreementVersions.Check(null, first, at) is null : first.Version == known.Version + 1;

    private static AgreementRefusedException Missing(Agreement? known, Agreement first, string beside, DateTimeOffset at) =>
        AgreementVersions.Check(known, first, at) is { } fault
            ? new AgreementRefusedException(
                fault,
                first.Version > 1
                    ? $"; or put version {first.Version - 1} beside the file, as {beside}, and so on backwards to one that is trusted"
                    : ""
            )
            : new AgreementRefusedException($"more than {MaxBefore} versions stand between it and one that is trusted");
}

/// <summary>
/// The agreement that a client or a witness uses (<see cref="AgreementFile.Trust"/>). Each use reads the file again if it has changed. A
/// new version that is refused is reported, and the previous one stays. It is tried again once a second, because what is wrong may not be
/// in the file: the disk may be full, or a version before it may be missing beside it. A version that is not valid yet is tried again in
/// the same way. It is not tried more often, because reading it costs milliseconds and anybody can cause a use by calling a witness. Safe
/// for concurrent use.
/// </summary>
public sealed class TrustedAgreement
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    private readonly Lock _lock = new();
    private readonly string _path;
    private readonly string? _folder;
    private readonly TimeProvider _time;
    private ParsedAgreement _agreement;
    private (DateTime, long) _read;
    private ((DateTime, long) Stamp, long Time)? _again;
    private bool _unkept;
    private string? _refused;

    /// <summary>Reads the file.</summary>
    /// <param name="path">The agreement's file.</param>
    /// <param name="folder">Where the version that was trusted last is kept; null: as long as this lives.</param>
    /// <param name="time">The clock.</param>
    /// <exception cref="AgreementRefusedException">It must not be judged by.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public TrustedAgreement(string path, string? folder, TimeProvider time)
    {
        (_path, _folder, _time) = (path, folder, time);
        _agreement = AgreementFile.Trust(path, folder, time.GetUtcNow());
    }

    /// <summary>Called once for each new version that is refused, with the reason. Never null.</summary>
    public Action<string> Complain { get; init; } = _ => { };

    /// <summary>The version to use.</summary>
    public ParsedAgreement Current
    {
        get
        {
            lock (_lock)
            {
                if (StampOf(_path) is not { } stamp || stamp == _read)
                    return _agreement;
                if (_again is { } again && again.Stamp == stamp && _time.GetElapsedTime(again.Time) < Pause)
                    return _agreement;
                try
                {
                    // The new version counts at once, even if it cannot be stored, because it may revoke a key.
                    if (AgreementFile.Next(_path, _agreement.Agreement, _time.GetUtcNow(), out var waits) is { } next)
                        (_agreement, _unkept) = (next, _folder is not null);
                    if (_unkept)
                        AgreementFile.Keep(_folder!, _agreement.Agreement);
                    // The version that waits becomes valid later, without a change of the file.
                    (_unkept, _refused, _again) = (false, null, waits ? (stamp, _time.GetTimestamp()) : null);
                    if (waits)
                        return _agreement;
                }
                catch (Exception e) when (e is AgreementRefusedException or IOException or UnauthorizedAccessException)
                {
                    if (_refused != e.Message)
                        Complain($"{_path}: {e.Message}; version {_agreement.Agreement.Version} is in force");
                    _refused = e.Message;
                    _again = (stamp, _time.GetTimestamp());
                    return _agreement;
                }
                _read = stamp;
                return _agreement;
            }
        }
    }

    // The time and size of the file itself, not of a link to it: Kubernetes puts files behind links, and the time of a link does not show a
    // new version. Null: there is no file. A file that cannot be examined gets a stamp that equals no other, so that it is read and the
    // reason is reported.
    private static (DateTime, long)? StampOf(string path)
    {
        if (!File.Exists(path))
            return null;
        try
        {
            using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            return (File.GetLastWriteTimeUtc(file), RandomAccess.GetLength(file));
        }
        catch (FileNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return (DateTime.MaxValue, -1);
        }
    }
}
