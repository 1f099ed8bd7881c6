namespace Ministries.Ministry;

/// <summary>What the command's exit code says.</summary>
internal static class ExitCodes
{
    /// <summary>Done.</summary>
    public const int Done = 0;

    /// <summary>The service refused, or something is not proved.</summary>
    public const int WasRefused = 1;

    /// <summary>What was given cannot be used or sent.</summary>
    public const int WrongInput = 2;

    /// <summary>The service was not reached, or did not answer in time.</summary>
    public const int NotReached = 3;

    /// <summary>A person was asked, and did not say yes.</summary>
    public const int Declined = 4;

    /// <summary>Background work of the gateway failed for good: as the services' exit code.</summary>
    public const int BackgroundFailed = 5;

    /// <summary>A fault of the command itself: EX_SOFTWARE of sysexits.</summary>
    public const int Failed = 70;

    /// <summary>It was interrupted from the keyboard: 128 and SIGINT's number.</summary>
    public const int Interrupted = 130;

    /// <summary>Nobody reads its output any more, such as that of <c>… | head</c>: 128 and SIGPIPE's number.</summary>
    public const int Unread = 141;
}
