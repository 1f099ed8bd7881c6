using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using Ministries.Types.V1;

namespace Ministries.Trust.Tests;

/// <summary>What a client or a witness makes of an agreement's file, first and later: the same as a service.</summary>
public sealed class AgreementFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("agreement").FullName;
    private readonly DateTimeOffset _now = DateTimeOffset.UtcNow;

    public AgreementFileTests() => Pki.Init(_folder, StandardAgreement.Read(), TimeProvider.System);

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string File => Path.Combine(_folder, "agreement.json");

    private string Seen => Path.Combine(_folder, "seen");

    private Agreement Now => AgreementFile.Read(System.IO.File.ReadAllBytes(File)).Agreement;

    private Agreement Next(Agreement before, Action<Agreement> change, params string[] signers)
    {
        var next = before.Clone();
        change(next);
        AgreementVersions.Follow(before, next);
        foreach (var signer in signers)
            Pki.Sign(before, next, signer, Path.Combine(_folder, signer, "agreements.key"));
        return next;
    }

    private static void Deny(Agreement agreement, string serial) =>
        agreement.Participants.Single(p => p.Id == "kr/mfa").DeniedCertificates.Add(serial);

    private void Put(Agreement agreement, string? path = null) =>
        System.IO.File.WriteAllText(path ?? File, JsonFormatter.Default.Format(agreement));

    private ulong Trust(string? seen = null) => AgreementFile.Trust(File, seen ?? Seen, _now).Agreement.Version;

    private AgreementRefusedException Refused() => Assert.Throws<AgreementRefusedException>(() => Trust());

    [Fact]
    public void An_unsigned_file_of_version_0_is_refused_first_and_later()
    {
        var real = Now;
        var forged = real.Clone();
        (forged.Version, forged.PreviousDigest) = (0, ByteString.Empty);
        forged.Signatures.Clear();
        Put(forged);
        Assert.Contains("it has no version", Refused().Message);
        Put(real);
        Assert.Equal(1ul, Trust());
        Put(forged);
        Assert.Contains("it has no version", Refused().Message);
        Put(real);
        Assert.Equal(1ul, Trust());
    }

    [Fact]
    public void The_first_file_is_signed_by_everybody_in_it_whatever_its_number()
    {
        foreach (var version in (ulong[])[1, 2, 7, ulong.MaxValue])
        {
            var forged = Now;
            forged.Version = version;
            forged.PreviousDigest = version == 1 ? ByteString.Empty : ByteString.CopyFrom(new byte[32]);
            forged.Signatures.Clear();
            Put(forged, Path.Combine(_folder, "forged.json"));
            var e = Assert.Throws<AgreementRefusedException>(() => AgreementFile.Trust(Path.Combine(_folder, "forged.json"), Seen, _now));
            Assert.Equal(AgreementWrong.SignatureMissing, e.Fault!.Wrong);
        }
        // Nothing of what was refused is remembered.
        Assert.False(Directory.Exists(Seen));
        Assert.Equal(1ul, Trust());
        Assert.Equal(1ul, Trust());
    }

    [Fact]
    public void There_is_no_going_back_no_other_of_the_same_number_and_no_skipping()
    {
        var first = Now;
        var second = Next(first, a => Deny(a, "0A"), "kr/mfa");
        var third = Next(second, a => Deny(a, "0B"), "kr/mfa");
        Assert.Equal(1ul, Trust());
        Put(third);
        var e = Refused();
        Assert.Equal(AgreementWrong.VersionNotNext, e.Fault!.Wrong);
        Assert.Contains($"put version 2 beside the file, as {File}.2", e.Message);
        Put(second);
        Assert.Equal(2ul, Trust());
        Put(third);
        Assert.Equal(3ul, Trust());
        foreach (var earlier in (Agreement[])[first, second])
        {
            Put(earlier);
            Assert.Contains("version 3 is known, which is later", Refused().Message);
        }
        var other = Next(second, a => Deny(a, "0C"), "kr/mfa");
        Put(other);
        Assert.Contains("another agreement of version 3 is known", Refused().Message);
        // The same with fewer signatures is the same.
        third.Signatures.Clear();
        Put(third);
        Assert.Equal(3ul, Trust());
        Assert.NotEmpty(AgreementFile.Trust(File, Seen, _now).Agreement.Signatures);
    }

    [Fact]
    public void Who_missed_versions_or_begins_late_finds_them_beside_the_file()
    {
        var first = Now;
        var second = Next(first, a => Deny(a, "0A"), "kr/mfa");
        var third = Next(second, a => Deny(a, "0B"), "kr/mfa");
        var forged = Next(first, a => Deny(a, "0F"));
        Assert.Equal(1ul, Trust());
        Put(third);
        // What stands there is checked as if it had come in its time.
        Put(forged, $"{File}.2");
        Assert.NotNull(Refused().Fault);
        Put(first, $"{File}.2");
        Assert.Contains("holds version 1", Refused().Message);
        Put(second, $"{File}.2");
        Assert.Equal(3ul, Trust());
        // One that has seen nothing needs all of them, down to one that everybody signed.
        var fresh = Path.Combine(_folder, "fresh");
        var e = Assert.Throws<AgreementRefusedException>(() => Trust(fresh));
        Assert.Equal(AgreementWrong.SignatureMissing, e.Fault!.Wrong);
        Assert.Contains($"{File}.1", e.Message);
        Put(first, $"{File}.1");
        Assert.Equal(3ul, Trust(fresh));
        Assert.Equal(3ul, AgreementFile.Trust(File, null, _now).Agreement.Version);
    }

    [Fact]
    public void A_version_that_is_signed_by_a_stranger_or_changes_others_affairs_is_refused()
    {
        var first = Now;
        Assert.Equal(1ul, Trust());
        Put(Next(first, a => a.Grants.Clear(), "kr/mfa"));
        Assert.Equal(AgreementWrong.SignatureMissing, Refused().Fault!.Wrong);
        using var stranger = NSec.Cryptography.Key.Create(NSec.Cryptography.SignatureAlgorithm.Ed25519);
        var signed = Next(first, a => Deny(a, "0A"));
        AgreementVersions.Sign(signed, "kr/mfa", "kr/mfa/agreements-1", stranger);
        Put(signed);
        Assert.Equal(AgreementWrong.SignatureWrong, Refused().Fault!.Wrong);
        Put(first);
        Assert.Equal(1ul, Trust());
    }

    [Fact]
    public void While_it_runs_a_client_takes_over_what_follows_and_tells_once_what_does_not()
    {
        var told = new List<string>();
        var (first, trusted) = (Now, new TrustedAgreement(File, Seen, TimeProvider.System) { Complain = told.Add });
        var second = Next(first, a => Deny(a, "0A"), "kr/mfa");
        var unsigned = Next(second, a => Deny(a, "0B"));
        Put(second);
        Assert.Equal(2ul, trusted.Current.Agreement.Version);
        Put(unsigned);
        for (var i = 0; i < 3; i++)
            Assert.Equal(2ul, trusted.Current.Agreement.Version);
        Assert.Contains("SignatureMissing", Assert.Single(told));
        System.IO.File.WriteAllText(File, "{");
        Assert.Equal(2ul, trusted.Current.Agreement.Version);
        Put(first);
        Assert.Equal(2ul, trusted.Current.Agreement.Version);
        Assert.Equal(3, told.Count);
        System.IO.File.Delete(File);
        Assert.Equal(2ul, trusted.Current.Agreement.Version);
        // It is remembered: another start does not go back either.
        Put(first);
        Assert.Contains("version 2 is known", Refused().Message);
    }

    /// <summary>So Kubernetes puts files: the link stays, and the folder to which it leads is another.</summary>
    [Fact]
    public void A_version_that_is_put_behind_a_link_is_taken_over()
    {
        string In(string name) => Path.Combine(_folder, name);
        foreach (var (name, agreement) in ((string, Agreement)[])[("..1", Now), ("..2", Next(Now, a => Deny(a, "0A"), "kr/mfa"))])
        {
            Directory.CreateDirectory(In(name));
            Put(agreement, Path.Combine(In(name), "agreement.json"));
        }
        Directory.CreateSymbolicLink(In("..data"), In("..1"));
        System.IO.File.CreateSymbolicLink(In("link.json"), Path.Combine(In("..data"), "agreement.json"));
        var trusted = new TrustedAgreement(In("link.json"), Seen, TimeProvider.System);
        Assert.Equal(1ul, trusted.Current.Agreement.Version);
        Directory.Delete(In("..data"));
        Directory.CreateSymbolicLink(In("..data"), In("..2"));
        Assert.Equal(2ul, trusted.Current.Agreement.Version);
    }

    [Fact]
    public void A_version_that_cannot_be_kept_counts_and_is_kept_as_soon_as_that_can_be()
    {
        var (told, clock, kept) = (new List<string>(), new Clock { Now = _now }, Path.Combine(Seen, "agreement.json"));
        var (first, trusted) = (Now, new TrustedAgreement(File, Seen, clock) { Complain = told.Add });
        System.IO.File.Delete(kept);
        Directory.CreateDirectory(Path.Combine(kept, "in the way"));
        Put(Next(first, a => Deny(a, "0A"), "kr/mfa"));
        for (var i = 0; i < 3; i++)
            Assert.Equal(2ul, trusted.Current.Agreement.Version);
        Assert.Single(told);
        Directory.Delete(kept, recursive: true);
        Assert.Equal(2ul, trusted.Current.Agreement.Version);
        Assert.False(System.IO.File.Exists(kept));
        clock.Now += TimeSpan.FromSeconds(1);
        Assert.Equal(2ul, trusted.Current.Agreement.Version);
        Put(first);
        Assert.Contains("version 2 is known", Refused().Message);
    }

    [Fact]
    public void A_version_whose_predecessor_comes_later_is_tried_again()
    {
        var clock = new Clock { Now = _now };
        var (first, trusted) = (Now, new TrustedAgreement(File, Seen, clock));
        var second = Next(first, a => Deny(a, "0A"), "kr/mfa");
        // What ua/mfa changes is not signed by kr/mfa, so it says nothing without the version before it.
        Put(Next(second, a => a.Participants.Single(p => p.Id == "ua/mfa").DeniedCertificates.Add("0B"), "ua/mfa"));
        Assert.Equal(1ul, trusted.Current.Agreement.Version);
        Put(second, AgreementFile.PathOf(File, 2));
        clock.Now += TimeSpan.FromSeconds(1);
        Assert.Equal(3ul, trusted.Current.Agreement.Version);
    }

    [Fact]
    public void A_version_that_is_not_valid_yet_waits_and_comes_without_another_file()
    {
        var clock = new Clock { Now = _now };
        var first = Now;
        var trusted = new TrustedAgreement(File, Seen, clock);
        Put(
            Next(
                first,
                a => a.ValidFromTime = _now.AddHours(1).ToTimestamp(),
                [.. first.Participants.Where(AgreementVersions.Signs).Select(p => p.Id)]
            )
        );
        Assert.Equal(1ul, trusted.Current.Agreement.Version);
        Assert.Equal(1ul, Trust());
        Assert.Throws<AgreementRefusedException>(() => Trust(Path.Combine(_folder, "fresh")));
        clock.Now = _now.AddHours(1);
        Assert.Equal(2ul, trusted.Current.Agreement.Version);
    }

    [Fact]
    public void A_version_that_waits_is_not_read_with_each_use()
    {
        var (told, clock, first) = (new List<string>(), new Clock { Now = _now }, Now);
        var trusted = new TrustedAgreement(File, Seen, clock) { Complain = told.Add };
        Put(
            Next(
                first,
                a => a.ValidFromTime = _now.AddHours(1).ToTimestamp(),
                [.. first.Participants.Where(AgreementVersions.Signs).Select(p => p.Id)]
            )
        );
        Assert.Equal(1ul, trusted.Current.Agreement.Version);
        // Of the same size and time, and no agreement: whoever reads it complains.
        var (content, time) = (System.IO.File.ReadAllText(File), System.IO.File.GetLastWriteTimeUtc(File));
        Replace(new string('x', content.Length));
        for (var i = 0; i < 3; i++)
            Assert.Equal(1ul, trusted.Current.Agreement.Version);
        Assert.Empty(told);
        Replace(content);
        clock.Now = _now.AddHours(1);
        Assert.Equal(2ul, trusted.Current.Agreement.Version);

        void Replace(string text)
        {
            System.IO.File.WriteAllText(File, text);
            System.IO.File.SetLastWriteTimeUtc(File, time);
        }
    }

    [Fact]
    public void While_a_version_waits_the_one_before_it_counts_where_it_was_missed()
    {
        var clock = new Clock { Now = _now };
        var first = Now;
        var second = Next(first, a => Deny(a, "0A"), "kr/mfa");
        var third = Next(
            second,
            a => a.ValidFromTime = _now.AddHours(1).ToTimestamp(),
            [.. first.Participants.Where(AgreementVersions.Signs).Select(p => p.Id)]
        );
        var trusted = new TrustedAgreement(File, Seen, clock);
        Put(third);
        Assert.Equal(1ul, trusted.Current.Agreement.Version);
        Put(second, $"{File}.2");
        clock.Now = _now.AddSeconds(1);
        Assert.Equal(2ul, trusted.Current.Agreement.Version);
        Put(first, $"{File}.1");
        Assert.Equal(2ul, AgreementFile.Trust(File, Path.Combine(_folder, "fresh"), _now).Agreement.Version);
        clock.Now = _now.AddHours(1);
        Assert.Equal(3ul, trusted.Current.Agreement.Version);
    }

    private sealed class Clock : TimeProvider
    {
        public DateTimeOffset Now { get; set; }

        public override DateTimeOffset GetUtcNow() => Now;

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => Now.UtcTicks;
    }

    [Fact]
    public void A_file_without_end_is_not_read()
    {
        using (var large = System.IO.File.OpenWrite(File))
            large.SetLength(AgreementFile.MaxBytes + 1L);
        Assert.Contains("larger than", Refused().Message);
    }
}
